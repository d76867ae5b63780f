using System.Globalization;
using Fabric.Core;
using Fabric.Wire.Api;

namespace Fabric.Cli.Output;

/// <summary>Which fields of each report are shown to people, in which order.</summary>
internal static class Views
{
    public static IReadOnlyList<Column<HostReport>> Hosts(TimeProvider time) =>
    [
        new("name", h => h.Name.Value),
        new("state", h => h.State),
        new("site", h => h.Site?.Value ?? Words.None),
        new("vms", h => Words.Number(h.Vms.Count), Right: true),
        new("memory", h => Words.Bytes(h.MemoryBytes), Right: true),
        new("free", h => Words.Bytes(h.MemoryFreeBytes), Right: true),
        new("cpus", h => Words.Number(h.Cpus), Right: true),
        new("seen", h => Words.Ago(h.LastSeen, time)),
        new("agent", h => h.AgentUrl?.ToString() ?? Words.None, Wide: true),
        new("data", h => h.Data is { } data ? $"{data.Address}:{data.Port}" : Words.None, Wide: true),
        new("version", h => h.Version ?? Words.None, Wide: true),
        new("vm names", h => h.Vms.Count == 0 ? Words.None : string.Join(',', h.Vms), Wide: true),
    ];

    /// <summary>One host, as lines.</summary>
    public static IReadOnlyList<Column<HostReport>> Host(TimeProvider time) =>
    [
        new("name", h => h.Name.Value),
        new("state", h => h.Details?.Since is { } since ? $"{h.State}, since {Words.Ago(since, time)}" : h.State),
        new("cordoned", h => !h.Cordoned ? "no" : h.Details?.Cordon is { } cordon ? $"{Words.Ago(cordon.At, time)}: {cordon.Reason ?? "no reason was given"}" : "yes"),
        new("site", h => h.Site?.Value ?? Words.None),
        new("agent", h => h.AgentUrl?.ToString() ?? Words.None),
        new("data", h => h.Data is { } data ? $"{data.Address}:{data.Port}" : Words.None),
        new("incarnation", h => h.Details?.Incarnation.ToString() ?? Words.None),
        new("version", h => h.Version ?? Words.None),
        new("seen", h => Words.Ago(h.LastSeen, time)),
        new("memory", h => $"{Words.Bytes(h.Details?.MemoryUsedBytes)} used of {Words.Bytes(h.MemoryBytes)}"),
        new("cpus", h => Words.Number(h.Cpus)),
        new("vms", h => Lines(h.Details?.Machines, static m => $"{m.Vm}  {Words.Name(m.State)}  {(m.Owner ? "may run" : "may not run")}, epoch {m.Epoch}  {Words.Bytes(m.MemoryBytes)}")),
        new("migrations", h => Lines(h.Details?.Moves, static m => $"{Words.ShortId(m.Migration)}  {m.Vm}  {(m.Direction == "in" ? "from" : "to")} {m.Peer}  {m.Phase}")),
        new("answered by", h => h.Details?.AnsweredBy ?? Words.None),
    ];

    private static string Lines<T>(IReadOnlyList<T>? items, Func<T, string> line) =>
        items is null or { Count: 0 } ? "none" : string.Concat(items.Select(item => Environment.NewLine + "  " + line(item)));

    public static IReadOnlyList<Column<RepairHost>> RepairHosts { get; } =
    [
        new("host", h => h.Host.Value),
        new("may run", h => h.Answered ? Words.YesNo(h.Owner).ToLowerInvariant() : "?"),
        new("machine", h => !h.Answered ? h.Error ?? "no answer" : h.State is { } state ? Words.Name(state) : "none"),
        new("epoch", h => h.Epoch?.ToString() ?? Words.None, Right: true),
        new("pid", h => Words.Number(h.ProcessId), Right: true),
        new("outgoing", h => h.Outgoing is { } to ? Move(Words.Name(to.Phase), to.Migration, to.Epoch) : Words.None),
        new("incoming", h => h.Incoming is { } from ? Move(Words.Name(from.Phase), from.Migration, from.Epoch) : Words.None),
    ];

    private static string Move(string phase, MigrationId id, Epoch epoch) => $"{phase} {Words.ShortId(id)} (epoch {epoch})";

    public static IReadOnlyList<Column<EventReport>> Events { get; } =
    [
        new("at", e => e.At.ToString("HH:mm:ss.fff", CultureInfo.InvariantCulture)),
        new("stream", e => Words.ShortStream(e.Stream)),
        new("event", e => e.Kind),
        new("epoch", e => e.Epoch.ToString(), Right: true),
        new("by", e => e.By),
        new("why", Words.Why),
        new("shard", e => Words.Number(e.Shard), Wide: true, Right: true),
        new("position", e => e.Position.ToString(CultureInfo.InvariantCulture), Wide: true, Right: true),
    ];

    public static IReadOnlyList<Column<ShardReport>> Shards { get; } =
    [
        new("shard", s => Words.Number(s.Shard), Right: true),
        new("node", s => s.Node ?? Words.None),
        new("state", s => s.State),
        new("epoch", s => s.Epoch?.ToString() ?? Words.None, Right: true),
        new("events", s => s.Position?.ToString(CultureInfo.InvariantCulture) ?? Words.None, Right: true),
        new("vms", s => Words.Number(s.Vms), Right: true),
        new("migrations", s => Words.Number(s.Migrations), Right: true),
        new("node id", s => s.NodeId?.ToString() ?? Words.None, Wide: true),
    ];

    public static IReadOnlyList<Column<NodeReport>> Nodes(TimeProvider time) =>
    [
        new("name", n => n.Name),
        new("state", n => n.State),
        new("since", n => Words.Ago(n.Since, time)),
        new("suspected by", n => Words.Number(n.Suspected), Right: true),
        new("api", n => n.ApiUrl),
        new("id", n => n.Id.ToString(), Wide: true),
        new("cluster", n => n.ClusterUrl, Wide: true),
    ];

    public static IReadOnlyList<Column<VmReport>> Vms { get; } =
    [
        new("name", v => v.Name.Value),
        new("host", v => v.Host?.Value ?? Words.None),
        new("state", v => v.State),
        new("machine", v => Words.Name(v.Machine)),
        new("memory", v => Words.Bytes(v.MemoryBytes), Right: true),
        new("vcpus", v => Words.Number(v.Vcpus), Right: true),
        new("migration", v => v.Migration is { } id ? Words.ShortId(id) : Words.None),
        new("accel", v => Words.Name(v.Accelerator), Wide: true),
        new("epoch", v => v.Epoch.ToString(), Wide: true),
        new("pid", v => Words.Number(v.ProcessId), Wide: true),
        new("balloon", v => v.Spec.Balloon is { } own ? $"steady, every {own.Interval().TotalSeconds.ToString(CultureInfo.InvariantCulture)} s" : "off", Wide: true),
    ];

    public static IReadOnlyList<Column<MigrationReport>> Migrations { get; } =
    [
        new("id", m => Words.ShortId(m.Id)),
        new("vm", m => m.Vm.Value),
        new("mode", m => Words.Name(m.Mode)),
        new("from", m => m.Source.Value),
        new("to", m => m.Destination.Value),
        new("state", m => m.State),
        new("total", m => Words.Millis(m.TotalMs), Right: true),
        new("downtime", m => Words.Millis(m.DowntimeMs), Right: true),
        new("wire", m => Words.Bytes(m.Memory.WireBytes), Right: true),
        new("verified", m => Words.YesNo(m.Verified)),
        new("rounds", m => Words.Number(m.Rounds), Wide: true, Right: true),
        new("faults", m => Words.Number(m.Faults.Network), Wide: true, Right: true),
        new("verify", m => Words.Name(m.Verify), Wide: true),
        new("epoch", m => m.Epoch.ToString(), Wide: true),
        new("batch", m => m.Batch ?? Words.None, Wide: true),
        new("reason", m => m.Reason ?? Words.None, Wide: true),
    ];

    public static IReadOnlyList<Column<MigrationReport>> Migration { get; } =
    [
        new("id", m => m.Id.ToString()),
        new("vm", m => m.Vm.Value),
        new("from", m => m.Source.Value),
        new("to", m => m.Destination.Value),
        new("mode", m => Words.Name(m.Mode)),
        new("state", m => m.State),
        new("error", m => m.Error is { } error ? $"{error.Message} [{error.Code}]" : Words.None),
        new("reason", m => m.Reason ?? Words.None),
        new("batch", m => m.Batch ?? Words.None),
        new("started", m => m.StartedAt.ToString("u", CultureInfo.InvariantCulture)),
        new("total", m => Words.Millis(m.TotalMs)),
        new("downtime", m => Words.Millis(m.DowntimeMs)),
        new("resume", m => Words.Millis(m.ResumeMs)),
        new("rounds", m => Words.Number(m.Rounds)),
        new("memory", m => Words.Bytes(m.Memory.TotalBytes)),
        new("wire", m => Words.Bytes(m.Memory.WireBytes)),
        new("pages", m => $"{m.Memory.PagesSent} sent, {m.Memory.PagesZero} zero, {m.Memory.PagesResent} sent again, {m.Memory.PagesPacked} packed ({m.Memory.PagesDelta} as differences)"),
        new("faults", m => $"{Words.Number(m.Faults.Network)} over the network, {Words.Number(m.Faults.Minor)} minor; the guest waited {Words.Millis(m.Faults.StallMs)} for pages"),
        new("verified", m => $"{Words.YesNo(m.Verified)} ({Words.Name(m.Verify)})"),
        new("epoch", m => m.Epoch.ToString()),
        new("phase", m => m.Progress is { } p ? $"{p.Phase}, {Words.Percent(p.Percent)}, {Words.Bytes(p.BytesLeft)} left" : Words.None),
    ];

    public static IReadOnlyList<Column<EvacuationReport>> Evacuations { get; } =
    [
        new("id", e => e.Id),
        new("host", e => e.Host.Value),
        new("state", e => e.State),
        new("moved", e => $"{e.Items.Count(i => i.State == "moved")}/{e.Items.Count}", Right: true),
        new("started", e => e.StartedAt.ToString("u", CultureInfo.InvariantCulture)),
        new("total", e => Words.Millis(e.TotalMs), Right: true),
    ];

    public static IReadOnlyList<Column<EvacuationReport>> Evacuation { get; } =
    [
        .. Evacuations,
        new("vms", e => e.Items.Count == 0 ? "none" : string.Concat(e.Items.Select(Item))),
    ];

    private static string Item(EvacuationItem item) =>
        Environment.NewLine + $"  {item.Vm} → {item.Destination?.Value ?? Words.None}  {item.State}"
        + (item.Migration is { } id ? $"  {Words.ShortId(id)}" : "") + (item.Why is { } why ? $"  {why}" : "");
}
