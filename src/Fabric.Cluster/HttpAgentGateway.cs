using System.Globalization;
using System.Net;
using System.Net.Http.Headers;
using System.Text.Json;
using System.Text.Json.Serialization.Metadata;
using Fabric.Core;
using Fabric.Migration;
using Fabric.Wire.Agent;

namespace Fabric.Cluster;

/// <summary>Deadlines and limits of asking agents.</summary>
public sealed record AgentGatewayOptions
{
    public static AgentGatewayOptions Default { get; } = new();

    public TimeSpan Connect { get; init; } = TimeSpan.FromSeconds(2);

    /// <summary>Of one command, all tries together; a machine may take that long to start.</summary>
    public TimeSpan Command { get; init; } = TimeSpan.FromSeconds(90);

    /// <summary>Added to a long poll's own wait.</summary>
    public TimeSpan FactsGrace { get; init; } = TimeSpan.FromSeconds(3);

    public TimeSpan Console { get; init; } = TimeSpan.FromSeconds(5);

    /// <summary>Tries of a command when the agent could not be reached at all. Only that: an answer of any kind is not tried again.</summary>
    public int Tries { get; init; } = 3;

    /// <summary>Before the second try; doubles, with jitter of half.</summary>
    public TimeSpan RetryDelay { get; init; } = TimeSpan.FromMilliseconds(100);
}

/// <summary>
/// Agents over HTTP/2 in clear text with prior knowledge (docs/PROTOCOL.md, section 1). Commands may be repeated because their ids make them idempotent.
/// An agent is a peer, not a friend: bodies are bounded before they are read, and what does not parse is an error value.
/// Safe for any thread. Owns its connections.
/// </summary>
public sealed class HttpAgentGateway : IAgentGateway, IDisposable
{
    private readonly HostRegistry _hosts;
    private readonly TimeProvider _time;
    private readonly AgentGatewayOptions _options;
    private readonly HttpMessageInvoker _http;
    private readonly Jitter _jitter;

    public HttpAgentGateway(HostRegistry hosts, TimeProvider time, Random random, AgentGatewayOptions? options = null)
    {
        _hosts = hosts;
        _time = time;
        _jitter = new Jitter(random);
        _options = options ?? AgentGatewayOptions.Default;
        _http = new HttpMessageInvoker(
            new SocketsHttpHandler
            {
                ConnectTimeout = _options.Connect,
                EnableMultipleHttp2Connections = true,
                AllowAutoRedirect = false,
                UseCookies = false,
                UseProxy = false,
                AutomaticDecompression = DecompressionMethods.None,
                MaxResponseHeadersLength = 16,
                KeepAlivePingDelay = TimeSpan.FromSeconds(5),
                KeepAlivePingTimeout = TimeSpan.FromSeconds(5),
                PooledConnectionIdleTimeout = TimeSpan.FromMinutes(1),
            },
            disposeHandler: true);
    }

    public async Task<CommandResult> SendAsync(HostName host, AgentCommand command, CancellationToken cancellation)
    {
        ArgumentNullException.ThrowIfNull(command);
        byte[] body = JsonSerializer.SerializeToUtf8Bytes(command, AgentJson.Default.AgentCommand);
        using var deadline = Deadline(_options.Command, cancellation);
        for (int attempt = 1; ; attempt++)
        {
            try
            {
                byte[] answer = await AskAsync(host, HttpMethod.Post, "agent/v1/commands", body, deadline.Token)
                    ?? throw Malformed(host, "no answer to a command");
                var result = Read(host, answer, AgentJson.Default.CommandResult);
                return result.Id == command.Header.Id ? result : throw Malformed(host, $"an answer to command {result.Id} instead of {command.Header.Id}");
            }
            catch (FabricException failure) when (failure.Error.Code == ErrorCodes.Unreachable && attempt < _options.Tries)
            {
                await Task.Delay(_jitter.Of(_options.RetryDelay * (1 << (attempt - 1))), _time, deadline.Token);
            }
            catch (OperationCanceledException) when (!cancellation.IsCancellationRequested)
            {
                throw TooLate(host, _options.Command);
            }
        }
    }

    public async Task<HostFacts> FactsAsync(HostName host, long after, TimeSpan wait, CancellationToken cancellation)
    {
        var most = wait + _options.FactsGrace;
        using var deadline = Deadline(most, cancellation);
        try
        {
            string path = string.Create(CultureInfo.InvariantCulture, $"agent/v1/facts?after={after}&wait_ms={(long)wait.TotalMilliseconds}");
            byte[] answer = await AskAsync(host, HttpMethod.Get, path, null, deadline.Token) ?? throw Malformed(host, "no facts");
            var facts = Read(host, answer, AgentJson.Default.HostFacts);
            if (facts.Host != host)
                throw Malformed(host, $"the facts of '{facts.Host}'");
            return facts.Vms.Count <= Limits.VmsPerHost ? facts : throw Malformed(host, $"{facts.Vms.Count} VMs, more than {Limits.VmsPerHost}");
        }
        catch (OperationCanceledException) when (!cancellation.IsCancellationRequested)
        {
            throw TooLate(host, most);
        }
    }

    public async Task<byte[]?> ConsoleAsync(HostName host, VmName vm, long offset, int most, CancellationToken cancellation)
    {
        ArgumentOutOfRangeException.ThrowIfNegative(offset);
        ArgumentOutOfRangeException.ThrowIfLessThan(most, 1);
        ArgumentOutOfRangeException.ThrowIfGreaterThan(most, Limits.ControlMessageBytes);
        using var deadline = Deadline(_options.Console, cancellation);
        try
        {
            string path = string.Create(CultureInfo.InvariantCulture, $"agent/v1/vms/{vm}/console?offset={offset}&most={most}");
            return await AskAsync(host, HttpMethod.Get, path, null, deadline.Token);
        }
        catch (OperationCanceledException) when (!cancellation.IsCancellationRequested)
        {
            throw TooLate(host, _options.Console);
        }
    }

    public void Dispose() => _http.Dispose();

    /// <summary>The body of a 2xx answer; null for 404 without an error body's code other than not-found.</summary>
    private async Task<byte[]?> AskAsync(HostName host, HttpMethod method, string path, byte[]? body, CancellationToken cancellation)
    {
        var known = _hosts.Find(host) ?? throw new FabricException(
            ErrorCodes.Unreachable, $"Host '{host}' has not registered with this control node.", $"Is its agent running? fabric host show {host}");
        using var request = new HttpRequestMessage(method, new Uri(known.Registration.AgentUrl, "/" + path))
        {
            Version = HttpVersion.Version20,
            VersionPolicy = HttpVersionPolicy.RequestVersionExact,
        };
        if (body is not null)
        {
            request.Content = new ByteArrayContent(body);
            request.Content.Headers.ContentType = new MediaTypeHeaderValue("application/json");
        }

        try
        {
            using var response = await _http.SendAsync(request, cancellation);
            byte[] answer = await ReadBoundedAsync(host, response.Content, cancellation);
            if (response.IsSuccessStatusCode)
                return answer;
            return response.StatusCode == HttpStatusCode.NotFound && method == HttpMethod.Get ? null : throw Refusal(host, response.StatusCode, answer);
        }
        catch (Exception failure) when (failure is HttpRequestException or IOException)
        {
            throw new FabricException(
                ErrorCodes.Unreachable, $"The agent of '{host}' at {known.Registration.AgentUrl} could not be asked: {Label.Shorten(failure.Message)}", $"Is it running? fabric host show {host}", failure);
        }
    }

    private static async Task<byte[]> ReadBoundedAsync(HostName host, HttpContent content, CancellationToken cancellation)
    {
        if (content.Headers.ContentLength > Limits.ControlMessageBytes)
            throw Malformed(host, $"a body of {content.Headers.ContentLength} bytes, more than {Limits.ControlMessageBytes}");
        await using var stream = await content.ReadAsStreamAsync(cancellation);
        using var kept = new MemoryStream();
        byte[] buffer = new byte[16 * 1024];
        int read;
        while ((read = await stream.ReadAsync(buffer, cancellation)) > 0)
        {
            if (kept.Length + read > Limits.ControlMessageBytes)
                throw Malformed(host, $"a body of more than {Limits.ControlMessageBytes} bytes");
            kept.Write(buffer, 0, read);
        }

        return kept.ToArray();
    }

    private static T Read<T>(HostName host, byte[] answer, JsonTypeInfo<T> type)
        where T : class
    {
        try
        {
            return JsonSerializer.Deserialize(answer, type) ?? throw Malformed(host, "an empty answer");
        }
        catch (JsonException failure)
        {
            throw Malformed(host, $"an answer that is no {typeof(T).Name}: {Label.Shorten(failure.Message)}");
        }
    }

    private static FabricException Refusal(HostName host, HttpStatusCode status, byte[] answer)
    {
        try
        {
            if (JsonSerializer.Deserialize(answer, AgentJson.Default.ErrorBody) is { } body)
                return new FabricException(Label.Shorten(body.Code), $"The agent of '{host}' refuses: {Label.Shorten(body.Message)}", body.Hint is null ? null : Label.Shorten(body.Hint));
        }
        catch (JsonException)
        {
            // Not an agent's error object: the status says what can be said.
        }

        return Malformed(host, string.Create(CultureInfo.InvariantCulture, $"HTTP status {(int)status} without an error object"));
    }

    private static FabricException Malformed(HostName host, string what) =>
        new(ErrorCodes.Malformed, $"The agent of '{host}' sent {what}.", "Do control node and agent run the same version?");

    private static FabricException TooLate(HostName host, TimeSpan deadline) =>
        new(ErrorCodes.DeadlineExceeded, $"The agent of '{host}' did not answer within {deadline.TotalSeconds:0.#} s.", $"fabric host show {host}");

    private LinkedDeadline Deadline(TimeSpan after, CancellationToken cancellation) => new(after, _time, cancellation);

    /// <summary>Fires when the caller gives up or the time is over, whichever is first.</summary>
    private sealed class LinkedDeadline : IDisposable
    {
        private readonly CancellationTokenSource _timer;
        private readonly CancellationTokenSource _both;

        public LinkedDeadline(TimeSpan after, TimeProvider time, CancellationToken cancellation)
        {
            _timer = new CancellationTokenSource(after, time);
            _both = CancellationTokenSource.CreateLinkedTokenSource(_timer.Token, cancellation);
        }

        public CancellationToken Token => _both.Token;

        public void Dispose()
        {
            _both.Dispose();
            _timer.Dispose();
        }
    }
}
