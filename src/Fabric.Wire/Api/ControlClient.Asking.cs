// How a request finds a control node that answers it.
using System.Net;
using System.Net.Http.Json;
using System.Text.Json;
using System.Text.Json.Serialization.Metadata;
using Fabric.Core;
using Fabric.Wire.Agent;

namespace Fabric.Wire.Api;

public sealed partial class ControlClient
{
    public const int MostNodes = 16;

    /// <summary>Above the server's own deadline, so that its answer comes first.</summary>
    private static readonly TimeSpan Deadline = TimeSpan.FromSeconds(130);

    /// <summary>For what only reads, when another node could be asked instead: a node may hang without being dead. Above the longest of long polls.</summary>
    private static readonly TimeSpan ReadDeadline = TimeSpan.FromSeconds(30);

    /// <summary>How long a request is tried again while none of several nodes takes it.</summary>
    private static readonly TimeSpan Patience = TimeSpan.FromSeconds(10);

    private static readonly TimeSpan Pause = TimeSpan.FromMilliseconds(250);

    /// <summary>After which <see cref="Slow"/> is told.</summary>
    public static readonly TimeSpan SlowAfter = TimeSpan.FromSeconds(3);

    private readonly HttpClient _http;
    private readonly IReadOnlyList<Uri> _urls;
    private readonly TimeProvider _time;
    private readonly Jitter _jitter;
    private int _current; // index of the node that answered last; written by whoever moves on

    /// <summary>Of one node.</summary>
    /// <param name="url">Of a control node: its API for operators, or its port for other nodes.</param>
    /// <param name="transport">Null: an own one.</param>
    /// <param name="http2">HTTP/2 with prior knowledge, which the port for other nodes speaks.</param>
    public ControlClient(Uri url, HttpMessageHandler? transport = null, bool http2 = false)
        : this([url], TimeProvider.System, new Random(), transport, http2)
    {
    }

    /// <summary>Of any of some nodes of one cluster.</summary>
    /// <param name="urls">1 to <see cref="MostNodes"/>; the first one is asked first.</param>
    /// <param name="time">For pauses and deadlines.</param>
    /// <param name="random">For jitter; the client's own from here on.</param>
    /// <param name="transport">Null: an own one.</param>
    /// <param name="http2">As for one node.</param>
    public ControlClient(IReadOnlyList<Uri> urls, TimeProvider time, Random random, HttpMessageHandler? transport = null, bool http2 = false)
    {
        ArgumentNullException.ThrowIfNull(urls);
        ArgumentOutOfRangeException.ThrowIfZero(urls.Count);
        ArgumentOutOfRangeException.ThrowIfGreaterThan(urls.Count, MostNodes);
        _urls = urls;
        _time = time;
        _jitter = new Jitter(random);
        _http = new HttpClient(transport ?? new SocketsHttpHandler { ConnectTimeout = TimeSpan.FromSeconds(5), UseProxy = false, AllowAutoRedirect = false })
        {
            DefaultRequestVersion = http2 ? HttpVersion.Version20 : HttpVersion.Version11,
            DefaultVersionPolicy = http2 ? HttpVersionPolicy.RequestVersionExact : HttpVersionPolicy.RequestVersionOrLower,
            Timeout = Timeout.InfiniteTimeSpan,
            MaxResponseContentBufferSize = 64 * ByteSize.Mebi,
        };
    }

    /// <summary>Told the node that does not answer, why, and the one that is asked next. Any thread. Set before the first request.</summary>
    public Action<Uri, string, Uri>? MovedOn { get; init; }

    /// <summary>Told the node that has been asked for <see cref="SlowAfter"/> and has not answered yet: a node waits for its journal and its agents. Once for each try. Any thread. Set before the first request.</summary>
    public Action<Uri>? Slow { get; init; }

    /// <summary>The code of the error when no node was reached at all, so that nothing was done: not-held, for nodes among themselves, lets a router ask again.</summary>
    public string UntouchedCode { get; init; } = ErrorCodes.Unreachable;

    /// <summary>The node that is asked first now.</summary>
    public Uri Url => _urls[Volatile.Read(ref _current)];

    public void Dispose() => _http.Dispose();

    /// <summary>Whether a request may be sent again when nobody knows if it was done.</summary>
    private enum Repeat
    {
        /// <summary>It changes something, and twice is not as once.</summary>
        Never,

        /// <summary>Twice is as once: it has a request id, or sets what is set already.</summary>
        Harmless,

        /// <summary>It only reads.</summary>
        Reads,
    }

    private static Repeat Named(Guid? requestId) => requestId is null ? Repeat.Never : Repeat.Harmless;

    private Task<T> GetAsync<T>(string path, JsonTypeInfo<T> type, CancellationToken cancellation) => SendAsync(HttpMethod.Get, path, null, Repeat.Reads, type, cancellation);

    private async Task<T> SendAsync<T>(HttpMethod method, string path, Func<HttpContent>? content, Repeat repeat, JsonTypeInfo<T> type, CancellationToken cancellation)
    {
        using var answer = await AskAsync(method, path, content, repeat, cancellation);
        try
        {
            return await answer.Content.ReadFromJsonAsync(type, cancellation) ?? throw NotFabric(Url, answer.StatusCode, null);
        }
        catch (JsonException wrong)
        {
            throw NotFabric(Url, answer.StatusCode, wrong);
        }
    }

    private async Task<HttpResponseMessage> AskAsync(HttpMethod method, string path, Func<HttpContent>? content, Repeat repeat, CancellationToken cancellation)
    {
        long begun = _time.GetTimestamp();
        int node = Volatile.Read(ref _current);
        for (int tries = 1; ; tries++)
        {
            var (answer, failure) = await TryAsync(_urls[node], method, path, content, repeat, cancellation);
            if (answer is not null)
                return answer;
            bool again = _urls.Count > 1 && (failure.Untouched || repeat != Repeat.Never);
            if (!again || (tries >= _urls.Count && _time.GetElapsedTime(begun) > Patience))
                throw new FabricException(Final(failure, tries), failure.Cause);
            int next = (node + 1) % _urls.Count;
            if (Interlocked.CompareExchange(ref _current, next, node) == node)
                MovedOn?.Invoke(_urls[node], failure.Error.Message, _urls[next]);
            node = next;
            if (tries % _urls.Count == 0) // all of them, one after the other
                await Task.Delay(_jitter.Of(Pause), _time, cancellation);
        }
    }

    private FabricError Final(Failure failure, int tries) => _urls.Count > 1 && failure.Untouched && tries >= _urls.Count
        ? new FabricError(ErrorCodes.Unreachable, $"None of {_urls.Count} control nodes takes the request; the last one: {failure.Error.Message}", failure.Error.Hint)
        : failure.Error;

    /// <summary>An answer that is for the caller, or why another node is to be asked.</summary>
    /// <exception cref="FabricException">The server's refusal.</exception>
    private async Task<(HttpResponseMessage? Answer, Failure Failure)> TryAsync(
        Uri url, HttpMethod method, string path, Func<HttpContent>? content, Repeat repeat, CancellationToken cancellation)
    {
        var within = repeat == Repeat.Reads && _urls.Count > 1 ? ReadDeadline : Deadline;
        using var deadline = new CancellationTokenSource(within, _time);
        using var either = CancellationTokenSource.CreateLinkedTokenSource(deadline.Token, cancellation);
        using var slow = Slow is { } tell ? _time.CreateTimer(_ => tell(url), null, SlowAfter, Timeout.InfiniteTimeSpan) : null;
        using var request = new HttpRequestMessage(method, new Uri(url, path)) { Content = content?.Invoke(), Version = _http.DefaultRequestVersion, VersionPolicy = _http.DefaultVersionPolicy };
        HttpResponseMessage answer;
        try
        {
            answer = await _http.SendAsync(request, either.Token);
        }
        catch (HttpRequestException broken)
        {
            return (null, Broken(url, broken, repeat));
        }
        catch (OperationCanceledException late) when (!cancellation.IsCancellationRequested)
        {
            // Without our deadline it is the transport's own, for making a connection.
            return (null, deadline.IsCancellationRequested
                ? new Failure(new FabricError(ErrorCodes.DeadlineExceeded, $"{url} gave no answer within {within.TotalSeconds:0} s.", Unknown), late, Untouched: false)
                : new Failure(NoAnswer(url, late.Message, UntouchedCode), late, Untouched: true));
        }

        if (answer.IsSuccessStatusCode)
            return (answer, default);
        using (answer)
        {
            var refusal = await RefusalAsync(url, answer, cancellation);
            return refusal.Error.Code == ErrorCodes.NotHeld && _urls.Count > 1 ? (null, new Failure(refusal.Error, refusal, Untouched: true)) : throw refusal;
        }
    }

    private Failure Broken(Uri url, HttpRequestException broken, Repeat repeat)
    {
        string why = (broken.InnerException ?? broken).Message;
        if (broken.HttpRequestError is HttpRequestError.ConnectionError or HttpRequestError.NameResolutionError)
            return new Failure(NoAnswer(url, why, UntouchedCode), broken, Untouched: true);
        return new Failure(
            repeat == Repeat.Never ? new FabricError(ErrorCodes.DeadlineExceeded, $"{url} broke off before it answered: {why}", Unknown) : NoAnswer(url, why), broken, Untouched: false);
    }

    private const string Unknown = "Whether the request had an effect is unknown: ask with a 'list' or 'show' command.";

    private static FabricError NoAnswer(Uri url, string why, string code = ErrorCodes.Unreachable) =>
        new(code, $"No cluster answers at {url}: {why}", "Is it running? 'fabric up --detach' starts a local one.");

    private static async Task<FabricException> RefusalAsync(Uri url, HttpResponseMessage answer, CancellationToken cancellation)
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

        return NotFabric(url, answer.StatusCode, null);
    }

    private static FabricException NotFabric(Uri url, HttpStatusCode status, Exception? cause) =>
        new(ErrorCodes.Malformed, $"{url} answered {(int)status} with something that is no answer of Fabric's API.", "Does the URL name a control node's api_url?", cause);

    /// <summary><paramref name="Untouched"/>: the node certainly did nothing of what was asked.</summary>
    private readonly record struct Failure(FabricError Error, Exception Cause, bool Untouched);
}
