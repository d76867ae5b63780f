using System.Globalization;
using System.Net;
using System.Net.Http.Json;
using System.Text.Json;
using System.Text.Json.Serialization;
using System.Text.Json.Serialization.Metadata;
using Fabric.Core;
using Fabric.Wire.Agent;

namespace Fabric.Wire.Api;

/// <summary>
/// The HTTP API as methods. Every failure is a <see cref="FabricException"/>: the server's own error object, or unreachable when no answer came.
/// Every request has a deadline. Safe for use by several tasks at once.
/// </summary>
public sealed class ControlClient : IDisposable
{
    /// <summary>Above the server's own deadline, so that its answer comes first.</summary>
    private static readonly TimeSpan Deadline = TimeSpan.FromSeconds(130);

    // A newer server may say more than this client knows; only what is missing is an error.
    private static readonly ApiJson Api = new(new JsonSerializerOptions(ApiJson.Default.Options) { UnmappedMemberHandling = JsonUnmappedMemberHandling.Skip });

    private readonly HttpClient _http;

    /// <param name="url">Of a control node: its API for operators, or its port for other nodes.</param>
    /// <param name="transport">Null: an own one.</param>
    /// <param name="http2">HTTP/2 with prior knowledge, which the port for other nodes speaks.</param>
    public ControlClient(Uri url, HttpMessageHandler? transport = null, bool http2 = false)
    {
        Url = url;
        _http = new HttpClient(transport ?? new SocketsHttpHandler { ConnectTimeout = TimeSpan.FromSeconds(5), UseProxy = false, AllowAutoRedirect = false })
        {
            BaseAddress = url,
            DefaultRequestVersion = http2 ? HttpVersion.Version20 : HttpVersion.Version11,
            DefaultVersionPolicy = http2 ? HttpVersionPolicy.RequestVersionExact : HttpVersionPolicy.RequestVersionOrLower,
            Timeout = Deadline,
            MaxResponseContentBufferSize = 64 * ByteSize.Mebi,
        };
    }

    public Uri Url { get; }

    public async Task<IReadOnlyList<HostReport>> HostsAsync(CancellationToken cancellation) => (await GetAsync("v1/hosts", Api.ListingHostReport, cancellation)).Items;

    public Task<HostReport> HostAsync(HostName host, CancellationToken cancellation) => GetAsync($"v1/hosts/{host}", Api.HostReport, cancellation);

    public Task<HostReport> SetCordonedAsync(HostName host, bool cordoned, CancellationToken cancellation) =>
        SendAsync(HttpMethod.Post, $"v1/hosts/{host}/{(cordoned ? "cordon" : "uncordon")}", null, Api.HostReport, cancellation);

    public async Task<IReadOnlyList<VmReport>> VmsAsync(CancellationToken cancellation) => (await GetAsync("v1/vms", Api.ListingVmReport, cancellation)).Items;

    public Task<VmReport> VmAsync(VmName vm, CancellationToken cancellation) => GetAsync($"v1/vms/{vm}", Api.VmReport, cancellation);

    public Task<VmReport> CreateVmAsync(CreateVmRequest request, CancellationToken cancellation) =>
        SendAsync(HttpMethod.Post, "v1/vms", JsonContent.Create(request, Api.CreateVmRequest), Api.VmReport, cancellation);

    public async Task DeleteVmAsync(VmName vm, bool force, CancellationToken cancellation)
    {
        using var answer = await AskAsync(HttpMethod.Delete, $"v1/vms/{vm}?force={(force ? "true" : "false")}", null, cancellation);
    }

    public Task<ConsoleChunk> ConsoleAsync(VmName vm, long offset, CancellationToken cancellation) =>
        GetAsync(string.Create(CultureInfo.InvariantCulture, $"v1/vms/{vm}/console?offset={offset}&most=262144"), Api.ConsoleChunk, cancellation);

    public Task<MigrationReport> MigrateAsync(MigrateRequest request, CancellationToken cancellation) =>
        SendAsync(HttpMethod.Post, "v1/migrations", JsonContent.Create(request, Api.MigrateRequest), Api.MigrationReport, cancellation);

    public async Task<IReadOnlyList<MigrationReport>> MigrationsAsync(CancellationToken cancellation) =>
        (await GetAsync("v1/migrations", Api.ListingMigrationReport, cancellation)).Items;

    public Task<MigrationReport> MigrationAsync(string id, CancellationToken cancellation) =>
        GetAsync($"v1/migrations/{Uri.EscapeDataString(id)}", Api.MigrationReport, cancellation);

    public Task<MigrationReport> AbortAsync(string id, string? reason, CancellationToken cancellation) =>
        SendAsync(HttpMethod.Post, $"v1/migrations/{Uri.EscapeDataString(id)}/abort", JsonContent.Create(new AbortRequest(reason), Api.AbortRequest), Api.MigrationReport, cancellation);

    public Task<EvacuationReport> EvacuateAsync(EvacuateRequest request, CancellationToken cancellation) =>
        SendAsync(HttpMethod.Post, "v1/evacuations", JsonContent.Create(request, Api.EvacuateRequest), Api.EvacuationReport, cancellation);

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

    public void Dispose() => _http.Dispose();

    private Task<T> GetAsync<T>(string path, JsonTypeInfo<T> type, CancellationToken cancellation) => SendAsync(HttpMethod.Get, path, null, type, cancellation);

    private async Task<T> SendAsync<T>(HttpMethod method, string path, HttpContent? content, JsonTypeInfo<T> type, CancellationToken cancellation)
    {
        using var answer = await AskAsync(method, path, content, cancellation);
        try
        {
            return await answer.Content.ReadFromJsonAsync(type, cancellation) ?? throw NotFabric(answer.StatusCode, null);
        }
        catch (JsonException wrong)
        {
            throw NotFabric(answer.StatusCode, wrong);
        }
    }

    private async Task<HttpResponseMessage> AskAsync(HttpMethod method, string path, HttpContent? content, CancellationToken cancellation)
    {
        using var request = new HttpRequestMessage(method, path) { Content = content, Version = _http.DefaultRequestVersion, VersionPolicy = _http.DefaultVersionPolicy };
        HttpResponseMessage answer;
        try
        {
            answer = await _http.SendAsync(request, cancellation);
        }
        catch (HttpRequestException broken)
        {
            throw new FabricException(
                ErrorCodes.Unreachable, $"No cluster answers at {Url}: {(broken.InnerException ?? broken).Message}", "Is it running? 'fabric up --detach' starts a local one.", broken);
        }
        catch (OperationCanceledException late) when (!cancellation.IsCancellationRequested)
        {
            throw new FabricException(ErrorCodes.DeadlineExceeded, $"{Url} gave no answer within {Deadline.TotalSeconds:0} s.", "Whether the request had an effect is unknown: ask with a 'list' or 'show' command.", late);
        }

        if (answer.IsSuccessStatusCode)
            return answer;
        using (answer)
            throw await RefusalAsync(answer, cancellation);
    }

    private async Task<FabricException> RefusalAsync(HttpResponseMessage answer, CancellationToken cancellation)
    {
        try
        {
            if (await answer.Content.ReadFromJsonAsync(AgentJson.Default.ErrorBody, cancellation) is { } body)
                return new FabricException(body.Code, body.Message, body.Hint);
        }
        catch (JsonException)
        {
            // Not our error object: somebody else listens there.
        }

        return NotFabric(answer.StatusCode, null);
    }

    private FabricException NotFabric(HttpStatusCode status, Exception? cause) =>
        new(ErrorCodes.Malformed, $"{Url} answered {(int)status} with something that is no answer of Fabric's API.", "Does the URL name a control node's api_url?", cause);
}
