using System.Text.Json;
using System.Text.Json.Serialization.Metadata;
using Fabric.Supervisor;
using Fabric.Wire.Api;

namespace Fabric.Unit.Supervisor;

/// <summary>
/// What a control node answers, as the bytes of the API, without what is by nature not the journal's. That is, and nothing else:
/// of a host: its state, free memory, VMs, and when it was last seen (facts and registrations);
/// of a VM that is neither lost nor starting nor migrating: its state; of any VM: its process (facts);
/// of a migration that is not over: its numbers and its progress (facts).
/// </summary>
internal static class Answers
{
    private const int EventsPerPage = 50;

    /// <summary>Each answer under the question.</summary>
    public static async Task<SortedDictionary<string, byte[]>> OfAsync(ControlPlane plane)
    {
        var said = new SortedDictionary<string, byte[]>(StringComparer.Ordinal);
        Say("hosts", new Listing<HostReport>([.. (await plane.ListHostsAsync(default)).Select(Durable)]), ApiJson.Default.ListingHostReport);
        Say("vms", new Listing<VmReport>([.. (await plane.ListVmsAsync(default)).Select(Durable)]), ApiJson.Default.ListingVmReport);
        Say("evacuations", new Listing<EvacuationReport>(await plane.ListEvacuationsAsync(default)), ApiJson.Default.ListingEvacuationReport);
        var migrations = await plane.ListMigrationsAsync(default);
        Say("migrations", new Listing<MigrationReport>([.. migrations.Select(Durable)]), ApiJson.Default.ListingMigrationReport);
        foreach (var evacuation in await plane.ListEvacuationsAsync(default))
            Say($"evacuation {evacuation.Id}", await plane.GetEvacuationAsync(evacuation.Id, default), ApiJson.Default.EvacuationReport);
        foreach (string id in migrations.Select(static m => m.Id.ToString()))
        {
            Say($"migration {id}", Durable(await plane.GetMigrationAsync(id, default)), ApiJson.Default.MigrationReport);
            Say($"log of {id}", new Listing<EventReport>(await plane.MigrationLogAsync(id, default)), ApiJson.Default.ListingEventReport);
        }

        string cursor = "";
        for (int page = 0; ; page++)
        {
            var events = await plane.EventsAsync(cursor, EventsPerPage, default);
            Say($"events, page {page:000}", events, ApiJson.Default.EventPage);
            if (events.Items.Count == 0)
                return said;
            cursor = events.Cursor;
        }

        void Say<T>(string question, T answer, JsonTypeInfo<T> type) => said.Add(question, JsonSerializer.SerializeToUtf8Bytes(answer, type));
    }

    /// <summary>The first question that two nodes answer differently, with both answers; null when every byte is the same.</summary>
    public static string? Difference(SortedDictionary<string, byte[]> one, SortedDictionary<string, byte[]> other)
    {
        foreach (string question in one.Keys.Union(other.Keys).Order(StringComparer.Ordinal))
        {
            if (!one.TryGetValue(question, out byte[]? first) || !other.TryGetValue(question, out byte[]? second) || !first.AsSpan().SequenceEqual(second))
                return $"{question}:\n{Text(one)}\n{Text(other)}";

            string Text(SortedDictionary<string, byte[]> said) => said.TryGetValue(question, out byte[]? bytes) ? System.Text.Encoding.UTF8.GetString(bytes) : "(not asked)";
        }

        return null;
    }

    private static HostReport Durable(HostReport host) => host with { State = "", MemoryFreeBytes = 0, Vms = [], LastSeen = null };

    private static VmReport Durable(VmReport vm) => vm with { State = vm.State is "lost" or "starting" or "migrating" ? vm.State : "", ProcessId = null };

    private static MigrationReport Durable(MigrationReport migration) => migration.Progress is null
        ? migration
        : migration with
        {
            Progress = null,
            DowntimeMs = null,
            ResumeMs = null,
            Rounds = 0,
            Memory = new MemoryReport(0, 0, 0, 0, 0, new Dictionary<string, long>()),
            Faults = new FaultReport(null, null, null, null),
            Verified = null,
        };
}
