using System.Net;
using System.Text;
using Fabric.Api;
using Fabric.Core;
using Microsoft.AspNetCore.Server.Kestrel.Core;
using Xunit;

namespace Fabric.Unit.Api;

/// <summary>
/// Garbage on the ports. Each test sends it over a raw socket and then proves that the service lives by an ordinary request
/// to the same server.
/// </summary>
public sealed class HostileInputTests : IAsyncLifetime
{
    private readonly FakeControlPlane _control = new();
    private ApiServer _server = null!;

    public async Task InitializeAsync() => _server = await ApiServer.StartAsync(_control);

    public async Task DisposeAsync() => await _server.DisposeAsync();

    [Theory]
    [InlineData(1)]
    [InlineData(2)]
    [InlineData(3)]
    public async Task Random_bytes_are_answered_or_closed(int seed)
    {
        byte[] bytes = new byte[8192];
        new Random(seed).NextBytes(bytes);
        string answer = await _server.RawAsync(bytes);
        Assert.True(answer.Length == 0 || answer.StartsWith("HTTP/1.1 400", StringComparison.Ordinal), answer);
        await StillServesAsync();
    }

    [Theory]
    [InlineData("GET / HTTP/9.9\r\nHost: 127.0.0.1\r\n\r\n", "HTTP/1.1 505")]
    [InlineData("GET /v1/vms HTTP/1.1\r\n\r\n", "HTTP/1.1 400")]
    [InlineData("POST /v1/vms HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\nContent-Length: -5\r\n\r\n", "HTTP/1.1 400")]
    [InlineData("POST /v1/vms HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\nContent-Length: 99999999999\r\n\r\n{", "HTTP/1.1 413")]
    [InlineData("POST /v1/vms HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", "HTTP/1.1 400")]
    public async Task Broken_http_is_refused(string text, string expected)
    {
        string answer = await _server.RawAsync(Encoding.Latin1.GetBytes(text));
        Assert.StartsWith(expected, answer, StringComparison.Ordinal);
        await StillServesAsync();
    }

    [Fact]
    public async Task Endless_headers_are_cut()
    {
        string many = string.Concat(Enumerable.Range(0, 4000).Select(i => $"X-{i}: {new string('a', 60)}\r\n"));
        string answer = await _server.RawAsync(Encoding.Latin1.GetBytes("GET /v1/vms HTTP/1.1\r\nHost: 127.0.0.1\r\n" + many));
        Assert.True(answer.Length == 0 || answer.StartsWith("HTTP/1.1 431", StringComparison.Ordinal), answer);
        await StillServesAsync();
    }

    [Fact]
    public async Task A_body_beyond_the_bound_is_refused_without_being_kept()
    {
        using var content = new ByteArrayContent(new byte[Limits.ControlMessageBytes + 1]);
        content.Headers.ContentType = new("application/json");
        HttpStatusCode? status = null;
        try
        {
            using var answer = await _server.Http.PostAsync(new Uri("/v1/vms", UriKind.Relative), content);
            status = answer.StatusCode;
        }
        catch (HttpRequestException)
        {
            // The server may close while the body is still being sent.
        }

        Assert.True(status is null or HttpStatusCode.RequestEntityTooLarge, $"{status}");
        await StillServesAsync();
    }

    [Fact]
    public async Task Deeply_nested_json_is_refused()
    {
        string deep = string.Concat(Enumerable.Repeat("{\"spec\":", 5000));
        using var content = new StringContent(deep, Encoding.UTF8, "application/json");
        using var answer = await _server.Http.PostAsync(new Uri("/v1/vms", UriKind.Relative), content);
        Assert.Equal(HttpStatusCode.BadRequest, answer.StatusCode);
        await StillServesAsync();
    }

    [Fact]
    public async Task Plain_http1_on_the_http2_port_is_closed()
    {
        await using var agent = await ApiServer.StartAsync(new FakeHostAgent(), HttpProtocols.Http2);
        string answer = await agent.RawAsync(Encoding.Latin1.GetBytes("GET /agent/v1/facts HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"));
        Assert.DoesNotContain("200 OK", answer, StringComparison.Ordinal);
        agent.Http.DefaultRequestVersion = HttpVersion.Version20;
        agent.Http.DefaultVersionPolicy = HttpVersionPolicy.RequestVersionExact;
        using var facts = await agent.Http.GetAsync(new Uri("/agent/v1/facts", UriKind.Relative));
        Assert.Equal(HttpStatusCode.OK, facts.StatusCode);
    }

    [Fact]
    public void Only_loopback_is_listened_on()
    {
        var builder = Microsoft.AspNetCore.Builder.WebApplication.CreateEmptyBuilder(new Microsoft.AspNetCore.Builder.WebApplicationOptions());
        var error = Assert.Throws<FabricException>(() => builder.WebHost.UseFabricServer([new HttpEndpoint(new IPEndPoint(IPAddress.Any, 0), HttpProtocols.Http1)]));
        Assert.Equal(ErrorCodes.RefusedBySafety, error.Error.Code);
    }

    [Fact]
    public async Task Health_says_what_is_wrong()
    {
        string? problem = null;
        await using var server = await ApiServer.StartAsync(HttpProtocols.Http1, app => app.MapHealth([new HealthCheck("journal", () => problem), new HealthCheck("clock", () => null)]));
        Assert.Equal("ok\n", await server.Http.GetStringAsync(new Uri("/livez", UriKind.Relative)));
        Assert.Equal("journal: ok\nclock: ok\nok\n", await server.Http.GetStringAsync(new Uri("/healthz?verbose", UriKind.Relative)));
        problem = "disk full";
        using var answer = await server.Http.GetAsync(new Uri("/readyz", UriKind.Relative));
        Assert.Equal(HttpStatusCode.ServiceUnavailable, answer.StatusCode);
        Assert.Equal("journal: disk full\nnot ready\n", await answer.Content.ReadAsStringAsync());
    }

    private async Task StillServesAsync()
    {
        using var answer = await _server.Http.GetAsync(new Uri("/v1/vms", UriKind.Relative));
        Assert.Equal(HttpStatusCode.OK, answer.StatusCode);
    }
}
