using Fabric.Core;
using Fabric.Migration;
using Fabric.Wire.Api;
using Xunit;
using static Fabric.Unit.Supervisor.ControlBench;

namespace Fabric.Unit.Supervisor;

/// <summary>Each refusal has its code, names the value, says what to do, and changes nothing: no event is written, no command is sent.</summary>
public sealed class RefusalTests
{
    [Theory]
    [InlineData("to its own host", ErrorCodes.InvalidArgument, "alpha")]
    [InlineData("of an unknown vm", ErrorCodes.NotFound, "nobody")]
    [InlineData("to an unknown host", ErrorCodes.NotFound, "nowhere")]
    [InlineData("to a cordoned host", ErrorCodes.RefusedBySafety, "beta")]
    [InlineData("to a silent host", ErrorCodes.Unreachable, "beta")]
    [InlineData("to a full host", ErrorCodes.Exhausted, "beta")]
    [InlineData("to a host without the machine kind", ErrorCodes.Incompatible, "beta")]
    [InlineData("of a vm that is migrating", ErrorCodes.Conflict, "web")]
    [InlineData("of a paused vm", ErrorCodes.Conflict, "web")]
    [InlineData("with a bad option", ErrorCodes.InvalidArgument, "0 ms")]
    public async Task A_migration_is_refused(string how, string code, string named)
    {
        await using var bench = await ControlBench.StartAsync();
        await bench.CreateAsync("web", Alpha);
        var (vm, to, options) = (VmName.Parse("web"), Beta, MigrationOptions.Default);
        switch (how)
        {
            case "to its own host":
                to = Alpha;
                break;
            case "of an unknown vm":
                vm = VmName.Parse("nobody");
                break;
            case "to an unknown host":
                to = HostName.Parse("nowhere");
                break;
            case "to a cordoned host":
                await bench.Control.SetCordonedAsync(Beta, true, null, default);
                break;
            case "to a silent host":
                bench.Gateway.Silence(Beta, true);
                await bench.UntilAsync(async () => (await bench.Control.ListHostsAsync(default)).Any(static h => h.State == "unreachable"), "beta is missed");
                break;
            case "to a full host":
                await bench.CreateAsync("big", Beta, 8 * ByteSize.Gibi - ByteSize.Mebi);
                break;
            case "to a host without the machine kind":
                await bench.Control.RegisterHostAsync(
                    new(Beta, bench.Cluster.Agents[Beta].Incarnation, new Uri("http://127.0.0.1:7070"), bench.Cluster.Agents[Beta].Data, 1, 1, [MachineKind.Qemu], "test"), default);
                break;
            case "of a vm that is migrating":
                bench.Gateway.Allow = static step => step != "converge";
                await bench.MigrateAsync("web", Gamma);
                break;
            case "of a paused vm":
                lock (bench.Cluster.Gate)
                {
                    bench.Cluster.Agents[Alpha].Vms[vm].Running = false;
                    bench.Cluster.Agents[Alpha].Touch();
                }

                await bench.UntilAsync(async () => (await bench.Control.ListVmsAsync(default))[0].State == "paused", "it is seen paused");
                break;
            default:
                options = new MigrationOptions { MaxDowntimeMs = 0 };
                break;
        }

        int before = bench.Memory.All.Count;
        var refused = await Assert.ThrowsAsync<FabricException>(() => bench.Control.MigrateAsync(new MigrateRequest(vm, to, options, null), default));
        Assert.Equal(code, refused.Error.Code);
        Assert.Contains(named, refused.Error.Message, StringComparison.Ordinal);
        Assert.NotNull(refused.Error.Hint);
        if (how != "of a vm that is migrating")
            Assert.Equal(before, bench.Memory.All.Count);
    }

    [Fact]
    public async Task Two_at_once_for_one_vm_are_one_migration_and_one_conflict()
    {
        await using var bench = await ControlBench.StartAsync();
        await bench.CreateAsync("web", Alpha);
        var both = await Task.WhenAll(TryAsync(Beta), TryAsync(Gamma));
        Assert.Single(both, static code => code is null);
        Assert.Single(both, static code => code == ErrorCodes.Conflict);

        async Task<string?> TryAsync(HostName to)
        {
            try
            {
                await bench.MigrateAsync("web", to);
                return null;
            }
            catch (FabricException refused)
            {
                return refused.Error.Code;
            }
        }
    }

    [Fact]
    public async Task An_old_life_of_the_control_node_is_fenced_at_journal_and_agents()
    {
        await using var bench = await ControlBench.StartAsync();
        await bench.CreateAsync("web", Alpha);
        await using var old = bench.Control;
        await bench.StartControlAsync();
        bench.Cluster.Agents[Alpha].Execute(new ReleaseSource(new CommandHeader(new CommandId(Guid.NewGuid()), VmName.Parse("web"), new Epoch(100), new Epoch(1))));
        var refused = await Assert.ThrowsAsync<FabricException>(() => old.MigrateAsync(new MigrateRequest(VmName.Parse("web"), Beta, MigrationOptions.Default, null), default));
        Assert.Contains(refused.Error.Code, new[] { ErrorCodes.RefusedByEpoch, ErrorCodes.Unreachable, ErrorCodes.NotFound });
        Assert.DoesNotContain(bench.Memory.All, static r => r.Kind == "migration-claimed");
    }
}
