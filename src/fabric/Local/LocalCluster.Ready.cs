using System.Net;
using Fabric.Core;

namespace Fabric.Cli.Local;

/// <summary>Waiting for what a started cluster does by itself.</summary>
public sealed partial class LocalCluster
{
    private const int ReadinessBytesMost = 4096;
    private static readonly TimeSpan ReadinessDeadline = TimeSpan.FromSeconds(5);
    private static readonly TimeSpan ReadinessPause = TimeSpan.FromMilliseconds(100);

    /// <summary>
    /// Waits until every host's readiness check (<c>/readyz</c>) has said yes: it is registered, and its rehearsal and the compilation behind it are over (docs/decisions/0004-rehearsal.md). A guest that is moved before
    /// stands some milliseconds longer.
    /// </summary>
    /// <exception cref="FabricException">deadline-exceeded: a host is not ready; the message has what it says.</exception>
    public async Task WaitUntilReadyAsync(CancellationToken cancellation)
    {
        using var http = new HttpClient(new SocketsHttpHandler { ConnectTimeout = ReadinessDeadline, UseProxy = false, AllowAutoRedirect = false })
        {
            DefaultRequestVersion = HttpVersion.Version20, // an agent speaks nothing else
            DefaultVersionPolicy = HttpVersionPolicy.RequestVersionExact,
            Timeout = ReadinessDeadline,
            MaxResponseContentBufferSize = ReadinessBytesMost,
        };
        int asked = 0;
        string answer = "it has not been asked";
        await UntilAsync(
            async token =>
            {
                for (; asked < Hosts.Count; asked++)
                {
                    (bool ready, answer) = await AskAsync(Hosts[asked], http, token);
                    if (!ready)
                        return false;
                }

                return true;
            },
            ReadinessPause,
            () => new FabricException(
                ErrorCodes.DeadlineExceeded, $"Host '{Hosts[asked]}' was not ready within {_options.StartWithin.TotalSeconds:0} s: {answer}. The end of its log:\n{LogTail(Hosts[asked])}"),
            cancellation);
    }

    /// <summary>Asks again and again, for as long as a step of the start may take; then throws what <paramref name="late"/> makes.</summary>
    private async Task UntilAsync(Func<CancellationToken, Task<bool>> holds, TimeSpan pause, Func<FabricException> late, CancellationToken cancellation)
    {
        using var deadline = new CancellationTokenSource(_options.StartWithin, _time);
        using var either = CancellationTokenSource.CreateLinkedTokenSource(cancellation, deadline.Token);
        try
        {
            while (!await holds(either.Token))
                await Task.Delay(pause, _time, either.Token);
        }
        catch (OperationCanceledException) when (!cancellation.IsCancellationRequested)
        {
            throw late();
        }
    }

    private async Task<(bool Ready, string Answer)> AskAsync(string host, HttpClient http, CancellationToken cancellation)
    {
        if (ReadyFile.Read(StateOf(host))?.AgentUrl is not { } url)
            return (false, "its agent does not serve");
        try
        {
            using var answer = await http.GetAsync(new Uri(url, "/readyz"), cancellation);
            return (answer.IsSuccessStatusCode, Label.Shorten((await answer.Content.ReadAsStringAsync(cancellation)).Trim()));
        }
        catch (Exception e) when (e is HttpRequestException or TaskCanceledException && !cancellation.IsCancellationRequested)
        {
            return (false, e.Message);
        }
    }
}
