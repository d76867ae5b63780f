using Fabric.Core;
using Fabric.Migration;
using Fabric.Supervisor;
using Fabric.Wire.Agent;
using Fabric.Wire.Api;

namespace Fabric.Unit.Api;

/// <summary>Answers from memory what a control node would; <see cref="Fail"/> makes every call refuse.</summary>
internal sealed class FakeControlPlane : IControlPlane
{
    public Exception? Fail { get; set; }

    public List<HostRegistration> Registered { get; } = [];

    public List<HostReport> Hosts { get; } = [Samples.Host("alpha"), Samples.Host("beta")];

    public List<VmReport> Vms { get; } = [Samples.Vm("web-1")];

    public List<MigrationReport> Migrations { get; } = [Samples.Migration()];

    public List<EvacuationReport> Evacuations { get; } = [Samples.Evacuation()];

    public MigrateRequest? Migrated { get; private set; }

    public string? AbortReason { get; private set; }

    public bool? Forced { get; private set; }

    public long Version { get; set; } = 7;

    /// <summary>Completes once somebody waits for a change.</summary>
    public TaskCompletionSource Waited { get; } = new(TaskCreationOptions.RunContinuationsAsynchronously);

    public Task RegisterHostAsync(HostRegistration registration, CancellationToken cancellation)
    {
        Registered.Add(registration);
        return Answer(true);
    }

    public Task<IReadOnlyList<HostReport>> ListHostsAsync(CancellationToken cancellation) => Answer<IReadOnlyList<HostReport>>(Hosts);

    public Task<HostReport> SetCordonedAsync(HostName host, bool cordoned, string? reason, CancellationToken cancellation)
    {
        CordonReason = reason;
        return Answer(Hosts.First(h => h.Name == host) with { Cordoned = cordoned, State = cordoned ? "cordoned" : "ready" });
    }

    public string? CordonReason { get; private set; }

    public Task<HostReport> GetHostAsync(HostName host, CancellationToken cancellation) => Hosts.Find(h => h.Name == host) is { } found
        ? Answer(found with { Details = Samples.HostDetails })
        : throw new FabricException(ErrorCodes.NotFound, $"There is no host '{host}'.");

    public Task<VmReport> CreateVmAsync(CreateVmRequest request, CancellationToken cancellation) =>
        Answer(Samples.Vm(request.Spec.Name.Value) with { Host = request.Host, Spec = request.Spec });

    public Task<IReadOnlyList<VmReport>> ListVmsAsync(CancellationToken cancellation) => Answer<IReadOnlyList<VmReport>>(Vms);

    public Task DeleteVmAsync(VmName vm, bool force, CancellationToken cancellation)
    {
        Forced = force;
        return Answer(true);
    }

    public Task<IReadOnlyList<EventReport>> MigrationLogAsync(string idOrPrefix, CancellationToken cancellation) => Answer<IReadOnlyList<EventReport>>([]);

    public Task<EventPage> EventsAsync(string cursor, int most, CancellationToken cancellation) => Answer(new EventPage([], "0"));

    public Task<IReadOnlyList<ShardReport>> ListShardsAsync(CancellationToken cancellation) => Answer<IReadOnlyList<ShardReport>>([]);

    public Task<IReadOnlyList<NodeReport>> ListNodesAsync(CancellationToken cancellation) => Answer<IReadOnlyList<NodeReport>>([]);

    public Task<ConsoleChunk> ReadConsoleAsync(VmName vm, long offset, int most, CancellationToken cancellation)
    {
        const string text = "GUEST ready\n";
        string rest = offset >= text.Length ? "" : text[(int)offset..];
        return Answer(new ConsoleChunk(offset, offset + rest.Length, rest));
    }

    public Task<MigrationReport> MigrateAsync(MigrateRequest request, CancellationToken cancellation)
    {
        Migrated = request;
        return Answer(Migrations[0] with { Vm = request.Vm, Destination = request.Destination });
    }

    public Task<IReadOnlyList<MigrationReport>> ListMigrationsAsync(CancellationToken cancellation) => Answer<IReadOnlyList<MigrationReport>>(Migrations);

    public Task<MigrationReport> GetMigrationAsync(string idOrPrefix, CancellationToken cancellation) =>
        Migrations.Find(m => m.Id.ToString().StartsWith(idOrPrefix, StringComparison.Ordinal)) is { } found
            ? Answer(found)
            : Task.FromException<MigrationReport>(new FabricException(ErrorCodes.NotFound, $"There is no migration '{idOrPrefix}'.", "fabric migration list"));

    public Task<RepairReport> RepairAsync(VmName vm, string? reason, CancellationToken cancellation) => Task.FromResult(vm.Value == "split"
        ? new RepairReport(vm, "refused", new ErrorBodyShort(ErrorCodes.RefusedBySafety, "2 hosts say that they may run it."), null, null, null, [Word("alpha"), Word("beta")])
        : new RepairReport(vm, "adopted", null, HostName.Parse("beta"), new Epoch(7), null, [Word("beta")]));

    private static RepairHost Word(string host) => new(HostName.Parse(host), true, null, true, VmRunState.Running, new Epoch(7), 4711, null, null);

    public Task<MigrationReport> AbortMigrationAsync(string idOrPrefix, string? reason, CancellationToken cancellation)
    {
        AbortReason = reason;
        return Answer(Migrations[0] with { State = "aborted" });
    }

    public Task<EvacuationReport> EvacuateAsync(EvacuateRequest request, CancellationToken cancellation) => Answer(Evacuations[0] with { DryRun = request.DryRun, State = request.DryRun ? "planned" : Evacuations[0].State });

    public Task<EvacuationReport> GetEvacuationAsync(string id, CancellationToken cancellation) => Answer(Evacuations[0]);

    public Task<IReadOnlyList<EvacuationReport>> ListEvacuationsAsync(CancellationToken cancellation) => Answer<IReadOnlyList<EvacuationReport>>(Evacuations);

    public Task<long> WaitChangeAsync(long after, TimeSpan wait, CancellationToken cancellation)
    {
        Waited.TrySetResult();
        return Answer(Version);
    }

    private Task<T> Answer<T>(T value) => Fail is { } failure ? Task.FromException<T>(failure) : Task.FromResult(value);
}

/// <summary>Reports with every kind of field set, and with the ones that do not apply null.</summary>
internal static class Samples
{
    public const string MigrationId = "0192f0c0ffee7000800000000000abcd";

    public static HostReport Host(string name) => new(
        HostName.Parse(name), "ready", false, new Uri("http://127.0.0.1:7101"), new DataEndpoint("127.0.0.1", 7201), 4 * ByteSize.Gibi, 3 * ByteSize.Gibi, 2, [VmName.Parse("web-1")],
        DateTimeOffset.UnixEpoch, "0.1.0");

    public static HostDetails HostDetails => new(
        DateTimeOffset.UnixEpoch, Guid.Parse("7f6b7ad9-2f39-4e4b-8f0f-0f8a8f1f1f1f"), ByteSize.Gibi, new CordonReport(DateTimeOffset.UnixEpoch, "new disks"),
        [new HostMachine(VmName.Parse("web-1"), VmRunState.Running, true, new Epoch(3), 4242, 256 * ByteSize.Mebi)],
        [new HostMove(Core.MigrationId.Parse(MigrationId), VmName.Parse("web-2"), "in", HostName.Parse("beta"), "pushing")], "control-2");

    public static VmReport Vm(string name) => new(
        VmName.Parse(name), HostName.Parse("alpha"), "running", MachineKind.Qemu, Accelerator.Tcg, 256 * ByteSize.Mebi, 1, new Epoch(3), 4242, null,
        new VmSpec { Name = VmName.Parse(name), MemoryBytes = 256 * ByteSize.Mebi, Kernel = "/k", Initrd = "/i" });

    public static MigrationReport Migration(string state = "completed") => new(
        Core.MigrationId.Parse(MigrationId), VmName.Parse("web-1"), HostName.Parse("alpha"), HostName.Parse("beta"), MigrationMode.PreCopy, state, null, null, DateTimeOffset.UnixEpoch,
        812.5, 12.25, 1.5, 3, new MemoryReport(268435456, 104857600, 25600, 30000, 12, new Dictionary<string, long>(StringComparer.Ordinal)), new FaultReport(null, null, null, null), null, true,
        VerifyLevel.Full, new Epoch(4), null, null);

    public static EvacuationReport Evacuation(string state = "done") => new(
        "0192f0c0beef", HostName.Parse("alpha"), state, false,
        [new EvacuationItem(VmName.Parse("web-1"), HostName.Parse("beta"), "moved", Core.MigrationId.Parse(MigrationId), null)], DateTimeOffset.UnixEpoch, 900);
}
