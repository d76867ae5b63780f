using System.Net;
using Fabric.Core;
using Microsoft.AspNetCore.Builder;
using Microsoft.AspNetCore.Hosting;
using Microsoft.AspNetCore.Server.Kestrel.Core;
using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.DependencyInjection.Extensions;

namespace Fabric.Api;

/// <summary>
/// Where to listen. HTTP/2 in clear text needs an endpoint of its own: without TLS a server cannot be asked which of the two
/// protocols a connection will speak. So operators (curl, <c>fabric</c>) get HTTP/1.1 and the nodes among themselves HTTP/2 with prior knowledge.
/// </summary>
public sealed record HttpEndpoint(IPEndPoint Address, HttpProtocols Protocols);

/// <summary>Kestrel with a bound on everything that a peer can make it keep.</summary>
public static class ServerSetup
{
    /// <summary>Long polls hold a connection each under HTTP/1.1, so this is also the bound on watchers.</summary>
    public const int Connections = 512;

    /// <param name="web">What is set up.</param>
    /// <param name="endpoints">Where to listen.</param>
    /// <param name="trusted">Null: loopback only.</param>
    /// <exception cref="FabricException">refused-by-safety: an address that is not trusted.</exception>
    public static void UseFabricServer(this IWebHostBuilder web, IReadOnlyList<HttpEndpoint> endpoints, TrustedNetwork? trusted = null)
    {
        trusted ??= TrustedNetwork.LoopbackOnly;
        ArgumentNullException.ThrowIfNull(web);
        ArgumentNullException.ThrowIfNull(endpoints);
        foreach (var endpoint in endpoints)
        {
            if (!trusted.Holds(endpoint.Address.Address))
                throw new FabricException(ErrorCodes.RefusedBySafety, $"Listening on {endpoint.Address} is refused: there are no certificates yet, and it is not {trusted}.", "Use a loopback address such as 127.0.0.1.");
        }

        web.UseKestrelCore().ConfigureKestrel(server =>
        {
            SetLimits(server.Limits);
            server.AddServerHeader = false;
            foreach (var endpoint in endpoints)
                server.Listen(endpoint.Address, listen => listen.Protocols = endpoint.Protocols);
        });
        web.ConfigureServices(services =>
        {
            services.AddRoutingCore();
            services.TryAddSingleton(TimeProvider.System);
            services.AddSingleton(trusted);
        });
    }

    /// <summary>Puts the gate before whatever is mapped afterwards.</summary>
    public static void UseFabricGate(this IApplicationBuilder app)
    {
        ArgumentNullException.ThrowIfNull(app);
        app.UseMiddleware<RequestGate>();
        app.UseRouting();
    }

    private static void SetLimits(KestrelServerLimits limits)
    {
        limits.MaxConcurrentConnections = Connections;
        limits.MaxConcurrentUpgradedConnections = 0;
        limits.MaxRequestBodySize = Limits.ControlMessageBytes;
        limits.MaxRequestLineSize = 4 * 1024;
        limits.MaxRequestHeaderCount = 48;
        limits.MaxRequestHeadersTotalSize = 16 * 1024;
        limits.RequestHeadersTimeout = TimeSpan.FromSeconds(10);
        limits.KeepAliveTimeout = TimeSpan.FromSeconds(90);

        // One byte a minute is an attack, not a slow peer.
        limits.MinRequestBodyDataRate = new MinDataRate(bytesPerSecond: 240, gracePeriod: TimeSpan.FromSeconds(5));
        limits.MinResponseDataRate = new MinDataRate(bytesPerSecond: 240, gracePeriod: TimeSpan.FromSeconds(10));
        limits.Http2.MaxStreamsPerConnection = 128;
        limits.Http2.KeepAlivePingDelay = TimeSpan.FromSeconds(30);
        limits.Http2.KeepAlivePingTimeout = TimeSpan.FromSeconds(20);
    }
}
