using System.Net;
using System.Text;
using System.Text.Json;
using Fabric.Actors.Testing;
using Fabric.Cluster;
using Fabric.Core;
using Fabric.Migration;
using Fabric.Wire.Agent;
using Microsoft.AspNetCore.Builder;
using Microsoft.AspNetCore.Hosting;
using Microsoft.AspNetCore.Hosting.Server;
using Microsoft.AspNetCore.Hosting.Server.Features;
using Microsoft.AspNetCore.Http;
using Microsoft.AspNetCore.Server.Kestrel.Core;
using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.Logging;
using Xunit;

namespace Fabric.Unit.Cluster;

/// <summary>The gateway against a real HTTP/2 listener on loopback that answers what a test wants, well or badly.</summary>
public sealed class HttpAgentGatewayTests : IAsyncLifetime
{
    private static readonly HostName Alpha = HostName.Parse("alpha");
    private static readonly HostFacts Facts = new(Alpha, Guid.NewGuid(), 7, new DataEndpoint("127.0.0.1", 1), 1, []);
    private readonly HostRegistry _hosts = new(TimeProvider.System);
    private WebApplication _agent = null!;
    private HttpAgentGateway _gateway = null!;
    private Func<HttpContext, Task> _answer = static _ => Task.CompletedTask;

    public async Task InitializeAsync()
    {
        var builder = WebApplication.CreateSlimBuilder();
        builder.Logging.ClearProviders();
        builder.WebHost.ConfigureKestrel(static kestrel => kestrel.Listen(IPAddress.Loopback, 0, static listen => listen.Protocols = HttpProtocols.Http2));
        _agent = builder.Build();
        _agent.Run(context => _answer(context));
        await _agent.StartAsync();
        string url = _agent.Services.GetRequiredService<IServer>().Features.Get<IServerAddressesFeature>()!.Addresses.First();
        _hosts.Register(new HostRegistration(Alpha, Guid.NewGuid(), new Uri(url), new DataEndpoint("127.0.0.1", 1), 1, 1, [], "test"));
        _gateway = new HttpAgentGateway(_hosts, TimeProvider.System, new Random(1), new AgentGatewayOptions { Connect = TimeSpan.FromSeconds(30), FactsGrace = TimeSpan.FromSeconds(30), RetryDelay = TimeSpan.FromMilliseconds(5) });
    }

    public async Task DisposeAsync()
    {
        _gateway.Dispose();
        await _agent.DisposeAsync();
    }

    [Fact]
    public async Task Commands_and_facts_go_over_http_2()
    {
        AgentCommand? received = null;
        string protocol = "";
        _answer = async context =>
        {
            protocol = context.Request.Protocol;
            if (context.Request.Path == "/agent/v1/facts")
            {
                Assert.Equal("?after=3&wait_ms=50", context.Request.QueryString.Value);
                await context.Response.Body.WriteAsync(JsonSerializer.SerializeToUtf8Bytes(Facts, AgentJson.Default.HostFacts));
                return;
            }

            received = await JsonSerializer.DeserializeAsync(context.Request.Body, AgentJson.Default.AgentCommand);
            await context.Response.Body.WriteAsync(JsonSerializer.SerializeToUtf8Bytes(new CommandResult(received!.Header.Id, new FabricError("conflict", "no")), AgentJson.Default.CommandResult));
        };
        var command = Command();
        var result = await _gateway.SendAsync(Alpha, command, default);
        Assert.Equal(command, received);
        Assert.Equal("conflict", result.Error!.Code);
        Assert.Equal("HTTP/2", protocol);
        Assert.Equal(7, (await _gateway.FactsAsync(Alpha, 3, TimeSpan.FromMilliseconds(50), default)).Version);
    }

    [Theory]
    [InlineData(200, "not json", ErrorCodes.Malformed)]
    [InlineData(200, "{}", ErrorCodes.Malformed)]
    [InlineData(500, "<html>", ErrorCodes.Malformed)]
    [InlineData(409, "{\"code\":\"conflict\",\"message\":\"no\",\"hint\":null,\"id\":null}", ErrorCodes.Conflict)]
    public async Task Bad_answers_are_error_values(int status, string body, string code)
    {
        _answer = async context =>
        {
            context.Response.StatusCode = status;
            await context.Response.Body.WriteAsync(Encoding.UTF8.GetBytes(body));
        };
        var refused = await Assert.ThrowsAsync<FabricException>(() => _gateway.SendAsync(Alpha, Command(), default));
        Assert.Equal(code, refused.Error.Code);
        Assert.Contains("alpha", refused.Error.Message, StringComparison.Ordinal);
    }

    [Fact]
    public async Task A_body_without_end_is_cut_at_the_limit()
    {
        _answer = static async context =>
        {
            byte[] block = new byte[64 * 1024];
            while (!context.RequestAborted.IsCancellationRequested)
                await context.Response.Body.WriteAsync(block, context.RequestAborted);
        };
        var refused = await Assert.ThrowsAsync<FabricException>(() => _gateway.FactsAsync(Alpha, 0, TimeSpan.FromSeconds(5), default));
        Assert.Equal(ErrorCodes.Malformed, refused.Error.Code);
    }

    [Fact]
    public async Task Silence_is_a_deadline()
    {
        var asked = new TaskCompletionSource(TaskCreationOptions.RunContinuationsAsynchronously);
        _answer = context =>
        {
            asked.SetResult();
            return Task.Delay(Timeout.InfiniteTimeSpan, TimeProvider.System, context.RequestAborted);
        };
        var time = new ManualTime();
        using var gateway = new HttpAgentGateway(_hosts, time, new Random(1), new AgentGatewayOptions { Connect = TimeSpan.FromSeconds(30), FactsGrace = TimeSpan.FromSeconds(3) });
        var facts = gateway.FactsAsync(Alpha, 0, TimeSpan.FromSeconds(2), default);
        await asked.Task;
        time.Advance(TimeSpan.FromSeconds(5) - TimeSpan.FromTicks(1));
        Assert.False(facts.IsCompleted);
        time.Advance(TimeSpan.FromTicks(1));
        Assert.Equal(ErrorCodes.DeadlineExceeded, (await Assert.ThrowsAsync<FabricException>(() => facts)).Error.Code);
    }

    [Fact]
    public async Task A_closed_port_and_an_unknown_host_are_unreachable()
    {
        await _agent.StopAsync();
        var gone = await Assert.ThrowsAsync<FabricException>(() => _gateway.SendAsync(Alpha, Command(), default));
        Assert.Equal(ErrorCodes.Unreachable, gone.Error.Code);
        Assert.Equal(ErrorCodes.Unreachable, (await Assert.ThrowsAsync<FabricException>(() => _gateway.SendAsync(HostName.Parse("nobody"), Command(), default))).Error.Code);
    }

    [Fact]
    public async Task An_unknown_console_is_null_and_a_known_one_is_its_bytes()
    {
        _answer = static async context =>
        {
            if (context.Request.Path == "/agent/v1/vms/web/console")
                await context.Response.Body.WriteAsync("login:"u8.ToArray());
            else
                context.Response.StatusCode = 404;
        };
        Assert.Equal("login:"u8.ToArray(), await _gateway.ConsoleAsync(Alpha, VmName.Parse("web"), 0, 100, default));
        Assert.Null(await _gateway.ConsoleAsync(Alpha, VmName.Parse("other"), 0, 100, default));
    }

    private static ReleaseSource Command() => new(new CommandHeader(new CommandId(Guid.NewGuid()), VmName.Parse("web"), new Epoch(3), new Epoch(2)));
}
