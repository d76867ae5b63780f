using Fabric.Core;
using Fabric.Wire.Agent;

namespace Fabric.Daemon;

/// <summary>
/// Tells every control node every second that this host is here (POST /v1/hosts): those of the configuration and those that any of them names as being up. Registrations
/// are soft: a control node that restarts knows nothing until the next one. Nothing is queued, since the next second's registration says the same.
/// </summary>
internal sealed partial class HostAnnouncer : IAsyncDisposable
{
    private static readonly TimeSpan Period = TimeSpan.FromSeconds(1);
    private static readonly TimeSpan Deadline = TimeSpan.FromSeconds(3);
    private const int MostControls = 64;

    private readonly HttpClient _http;
    private readonly IReadOnlyList<Uri> _controls;
    private readonly HostRegistration _registration;
    private readonly TimeProvider _time;
    private readonly Jitter _jitter;
    private readonly ILogger _log;
    private readonly CancellationTokenSource _stop = new();
    private readonly Task _running;
    private bool? _heard;
    private string? _problem = "not registered yet";

    public HostAnnouncer(IReadOnlyList<Uri> controls, HostRegistration registration, TimeProvider time, Random random, ILogger log)
    {
        _controls = controls;
        _registration = registration;
        _time = time;
        _jitter = new Jitter(random);
        _log = log;
        _http = new HttpClient(new SocketsHttpHandler { ConnectTimeout = TimeSpan.FromSeconds(1), UseProxy = false, AllowAutoRedirect = false })
        {
            Timeout = Deadline,
            DefaultRequestVersion = System.Net.HttpVersion.Version20,
            DefaultVersionPolicy = HttpVersionPolicy.RequestVersionExact,
        };
        _running = RunAsync(_stop.Token);
    }

    /// <summary>Null while a control node takes this host's registrations; for the readiness check. Any thread.</summary>
    public string? Problem => Volatile.Read(ref _problem);

    public async ValueTask DisposeAsync()
    {
        await _stop.CancelAsync();
        await _running.ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
        _http.Dispose();
        _stop.Dispose();
    }

    private async Task RunAsync(CancellationToken cancellation)
    {
        IReadOnlyCollection<Uri> known = [.. _controls];
        while (!cancellation.IsCancellationRequested)
        {
            var tries = await Task.WhenAll(known.Select(control => TryAsync(control, cancellation)));
            if (cancellation.IsCancellationRequested)
                return;
            // One that takes it is enough to be served; what the others miss they get from the next round.
            var taken = tries.FirstOrDefault(static t => t.Problem is null);
            string? problem = taken.Control is null ? tries[0].Problem : null;
            Volatile.Write(ref _problem, problem);
            Report(problem is null, taken.Control ?? tries[0].Control, problem);
            known = [.. _controls.Concat(tries.SelectMany(static t => t.Others)).Distinct().Take(MostControls)];

            // Jitter: hosts that started together do not stay together.
            await Task.Delay(_jitter.Around(Period, 0.25), _time, cancellation);
        }
    }

    private async Task<(Uri Control, string? Problem, IReadOnlyList<Uri> Others)> TryAsync(Uri control, CancellationToken cancellation)
    {
        try
        {
            using var content = JsonContent.Create(_registration, AgentJson.Default.HostRegistration);
            using var answer = await _http.PostAsync(new Uri(control, "/v1/hosts"), content, cancellation);
            if (!answer.IsSuccessStatusCode)
                return (control, $"{control} answered {(int)answer.StatusCode}: {Label.Shorten(await answer.Content.ReadAsStringAsync(cancellation))}", []);
            var named = await answer.Content.ReadFromJsonAsync(AgentJson.Default.RegistrationAnswer, cancellation);
            return (control, null, [.. (named?.ControlUrls ?? []).Where(static url => url.IsAbsoluteUri && url.Scheme == Uri.UriSchemeHttp)]);
        }
        catch (Exception failed) when (failed is HttpRequestException or IOException || (failed is OperationCanceledException && !cancellation.IsCancellationRequested))
        {
            return (control, $"{control} does not answer: {Label.Shorten((failed.InnerException ?? failed).Message)}", []);
        }
        catch (OperationCanceledException)
        {
            return (control, "stopped", []);
        }
        catch (System.Text.Json.JsonException wrong)
        {
            return (control, $"{control} answered with something that is no registration's answer: {Label.Shorten(wrong.Message)}", []);
        }
    }

    /// <summary>Only changes are worth a line.</summary>
    private void Report(bool heard, Uri control, string? problem)
    {
        if (_heard == heard)
            return;
        _heard = heard;
        if (heard)
            LogRegistered(_registration.Name.Value, control);
        else
            LogUnheard(_registration.Name.Value, problem);
    }

    [LoggerMessage(Level = LogLevel.Information, Message = "Host {Host} is registered with {Control}")]
    private partial void LogRegistered(string host, Uri control);

    [LoggerMessage(Level = LogLevel.Warning, Message = "Host {Host} is not registered: {Problem}")]
    private partial void LogUnheard(string host, string? problem);
}
