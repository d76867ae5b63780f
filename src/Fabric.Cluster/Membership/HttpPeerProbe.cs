using System.Net;
using Fabric.Journal;

namespace Fabric.Cluster.Membership;

/// <summary>Asks <c>GET {cluster_url}/cluster/v1/probe/{node}</c>: 204 from that life of the node, 404 from another. Any thread.</summary>
public sealed class HttpPeerProbe : IPeerProbe, IDisposable
{
    private readonly HttpMessageInvoker _http = new(
        new SocketsHttpHandler
        {
            ConnectTimeout = TimeSpan.FromSeconds(1),
            AllowAutoRedirect = false,
            UseCookies = false,
            UseProxy = false,
            MaxResponseHeadersLength = 16,
            PooledConnectionIdleTimeout = TimeSpan.FromMinutes(1),
        },
        disposeHandler: true);

    public async Task<bool> AnswersAsync(Member peer, CancellationToken cancellation)
    {
        ArgumentNullException.ThrowIfNull(peer);
        using var request = new HttpRequestMessage(HttpMethod.Get, new Uri(new Uri(peer.ClusterUrl), $"/cluster/v1/probe/{peer.Node:D}"))
        {
            Version = HttpVersion.Version20,
            VersionPolicy = HttpVersionPolicy.RequestVersionExact,
        };
        try
        {
            using var answer = await _http.SendAsync(request, cancellation);
            return answer.StatusCode == HttpStatusCode.NoContent;
        }
        catch (Exception failure) when (failure is HttpRequestException or IOException)
        {
            return false;
        }
    }

    public void Dispose() => _http.Dispose();
}
