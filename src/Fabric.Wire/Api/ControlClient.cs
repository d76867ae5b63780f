using System.Globalization;
using System.Net.Http.Json;
using System.Text.Json;
using System.Text.Json.Serialization;
using Fabric.Core;

namespace Fabric.Wire.Api;

/// <summary>
/// The HTTP API as methods. Every failure is a <see cref="FabricException"/>: the server's own error object, or unreachable when no answer came.
/// Every request has a deadline. Safe for use by several tasks at once.
/// <para>
/// Given several control nodes it stays with one as long as that answers. What a node did not take (it cannot be reached, or is not in its cluster now) goes to the next; what it may
/// have done before it broke off is asked again only where asking twice is as asking once, and is otherwise an error that says so.
/// </para>
/// </summary>
public sealed partial class ControlClient : IDisposable
{
    // A newer server may say more than this client knows; only what is missing is an error.
    private static readonly ApiJson Api = new(new JsonSerializerOptions(ApiJson.Default.Options) { UnmappedMemberHandling = JsonUnmappedMemberHandling.Skip });

    public async Task<IReadOnlyList<HostReport>> HostsAsync(CancellationToken cancellation) => (await GetAsync("v1/hosts", Api.ListingHostReport, cancellation)).Items;

    public Task<HostReport> HostAsync(HostName host, CancellationToken cancellation) => GetAsync($"v1/hosts/{host}", Api.HostReport, cancellation);

    public Task<HostReport> SetCordonedAsync(HostName host, bool cordoned, string? reason, CancellationToken cancellation) => SendAsync(
        HttpMethod.Post, $"v1/hosts/{host}/{(cordoned ? "cordon" : "uncordon")}", reason is null ? null : () => JsonContent.Create(new CordonRequest(reason), Api.CordonRequest), Repeat.Harmless, Api.HostReport, cancellation);

    public async Task<IReadOnlyList<VmReport>> VmsAsync(CancellationToken cancellation) => (await GetAsync("v1/vms", Api.ListingVmReport, cancellation)).Items;

    public Task<VmReport> VmAsync(VmName vm, CancellationToken cancellation) => GetAsync($"v1/vms/{vm}", Api.VmReport, cancellation);

    public Task<VmReport> CreateVmAsync(CreateVmRequest request, CancellationToken cancellation) =>
        SendAsync(HttpMethod.Post, "v1/vms", () => JsonContent.Create(request, Api.CreateVmRequest), Repeat.Never, Api.VmReport, cancellation);

    public async Task DeleteVmAsync(VmName vm, bool force, CancellationToken cancellation)
    {
        using var answer = await AskAsync(HttpMethod.Delete, $"v1/vms/{vm}?force={(force ? "true" : "false")}", null, Repeat.Never, cancellation);
    }

    public Task<ConsoleChunk> ConsoleAsync(VmName vm, long offset, CancellationToken cancellation) =>
        GetAsync(string.Create(CultureInfo.InvariantCulture, $"v1/vms/{vm}/console?offset={offset}&most=262144"), Api.ConsoleChunk, cancellation);

    /// <summary>With a request id it counts once however often it is sent.</summary>
    public Task<MigrationReport> MigrateAsync(MigrateRequest request, CancellationToken cancellation) =>
        SendAsync(HttpMethod.Post, "v1/migrations", () => JsonContent.Create(request, Api.MigrateRequest), Named(request.RequestId), Api.MigrationReport, cancellation);

    public async Task<IReadOnlyList<MigrationReport>> MigrationsAsync(CancellationToken cancellation) =>
        (await GetAsync("v1/migrations", Api.ListingMigrationReport, cancellation)).Items;

    public Task<MigrationReport> MigrationAsync(string id, CancellationToken cancellation) =>
        GetAsync($"v1/migrations/{Uri.EscapeDataString(id)}", Api.MigrationReport, cancellation);

    public Task<MigrationReport> AbortAsync(string id, string? reason, CancellationToken cancellation) =>
        SendAsync(
            HttpMethod.Post, $"v1/migrations/{Uri.EscapeDataString(id)}/abort", () => JsonContent.Create(new AbortRequest(reason), Api.AbortRequest), Repeat.Never, Api.MigrationReport, cancellation);

    /// <summary>A second repair finds what the first one left.</summary>
    public Task<RepairReport> RepairAsync(VmName vm, string? reason, CancellationToken cancellation) =>
        SendAsync(HttpMethod.Post, $"v1/vms/{vm}/repair", () => JsonContent.Create(new RepairRequest(reason), Api.RepairRequest), Repeat.Harmless, Api.RepairReport, cancellation);

    public Task<EvacuationReport> EvacuateAsync(EvacuateRequest request, CancellationToken cancellation) =>
        SendAsync(HttpMethod.Post, "v1/evacuations", () => JsonContent.Create(request, Api.EvacuateRequest), Named(request.RequestId), Api.EvacuationReport, cancellation);

    public async Task<IReadOnlyList<EvacuationReport>> EvacuationsAsync(CancellationToken cancellation) =>
        (await GetAsync("v1/evacuations", Api.ListingEvacuationReport, cancellation)).Items;

    public Task<EvacuationReport> EvacuationAsync(string id, CancellationToken cancellation) =>
        GetAsync($"v1/evacuations/{Uri.EscapeDataString(id)}", Api.EvacuationReport, cancellation);

    public async Task<IReadOnlyList<EventReport>> MigrationLogAsync(string id, CancellationToken cancellation) =>
        (await GetAsync($"v1/migrations/{Uri.EscapeDataString(id)}/log", Api.ListingEventReport, cancellation)).Items;

    /// <summary>Events after a cursor: "" from the beginning, "now" from now on.</summary>
    public Task<EventPage> EventsAsync(string cursor, CancellationToken cancellation) => GetAsync($"v1/events?after={Uri.EscapeDataString(cursor)}", Api.EventPage, cancellation);

    public async Task<IReadOnlyList<ShardReport>> ShardsAsync(CancellationToken cancellation) => (await GetAsync("v1/shards", Api.ListingShardReport, cancellation)).Items;

    public async Task<IReadOnlyList<NodeReport>> NodesAsync(CancellationToken cancellation) => (await GetAsync("v1/nodes", Api.ListingNodeReport, cancellation)).Items;

    /// <summary>Returns at the next change after <paramref name="after"/>, or when <paramref name="wait"/> (at most 20 s) has passed.</summary>
    public async Task<long> WaitChangeAsync(long after, TimeSpan wait, CancellationToken cancellation) =>
        (await GetAsync(string.Create(CultureInfo.InvariantCulture, $"v1/changes?after={after}&wait_ms={(long)wait.TotalMilliseconds}"), Api.ChangeReport, cancellation)).Version;
}
