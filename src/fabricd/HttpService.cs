using Fabric.Api;
using Fabric.Core;
using Microsoft.AspNetCore.Hosting.Server;
using Microsoft.AspNetCore.Hosting.Server.Features;
using Microsoft.AspNetCore.Http.Features;

namespace Fabric.Daemon;

/// <summary>
/// One web server with the endpoints of one role. Each role has its own, so that what is mapped for agents cannot be reached on the operators' port.
/// Signals are the process's business, not the server's: its lifetime does nothing by itself.
/// </summary>
internal sealed class HttpService : IAsyncDisposable
{
    /// <summary>Open requests (long polls among them) get this long at a graceful stop.</summary>
    public static readonly TimeSpan StopWithin = TimeSpan.FromSeconds(3);

    private readonly WebApplication _app;

    private HttpService(WebApplication app, IReadOnlyList<Uri> urls)
    {
        _app = app;
        Urls = urls;
    }

    /// <summary>In the order of the endpoints given, with the real ports.</summary>
    public IReadOnlyList<Uri> Urls { get; }

    /// <exception cref="FabricException">conflict: an address is in use.</exception>
    public static async Task<HttpService> StartAsync(
        IReadOnlyList<HttpEndpoint> endpoints, TrustedNetwork trusted, Action<IEndpointRouteBuilder> map, ILoggerFactory logs, TimeProvider time, CancellationToken cancellation)
    {
        var builder = WebApplication.CreateEmptyBuilder(new WebApplicationOptions());
        builder.Services.AddSingleton(logs);
        builder.Services.AddSingleton(typeof(ILogger<>), typeof(Logger<>));
        builder.Services.AddSingleton(time);
        builder.Services.AddSingleton<IHostLifetime, PassiveLifetime>();
        builder.Services.Configure<HostOptions>(options => options.ShutdownTimeout = StopWithin);
        builder.WebHost.UseFabricServer(endpoints, trusted);
        var app = builder.Build();
        app.UseFabricGate();
        map(app);
        try
        {
            await app.StartAsync(cancellation);
        }
        catch (IOException taken)
        {
            await app.DisposeAsync();
            string wanted = string.Join(", ", endpoints.Select(e => e.Address));
            throw new FabricException(ErrorCodes.Conflict, $"Cannot listen on {wanted}: {taken.Message}", "Another process has the port; configure another one, or 0 for any.", taken);
        }

        var addresses = app.Services.GetRequiredService<IServer>().Features.GetRequiredFeature<IServerAddressesFeature>().Addresses;
        return new HttpService(app, [.. addresses.Select(a => new Uri(a))]);
    }

    public async ValueTask DisposeAsync()
    {
        using var deadline = new CancellationTokenSource(StopWithin);
        await _app.StopAsync(deadline.Token);
        await _app.DisposeAsync();
    }

    private sealed class PassiveLifetime : IHostLifetime
    {
        public Task WaitForStartAsync(CancellationToken cancellationToken) => Task.CompletedTask;

        public Task StopAsync(CancellationToken cancellationToken) => Task.CompletedTask;
    }
}
