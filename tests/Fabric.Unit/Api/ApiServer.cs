using System.Net;
using System.Net.Sockets;
using System.Text;
using Fabric.Api;
using Fabric.Core;
using Fabric.Host;
using Fabric.Migration;
using Fabric.Supervisor;
using Fabric.Wire.Agent;
using Microsoft.AspNetCore.Builder;
using Microsoft.AspNetCore.Hosting.Server;
using Microsoft.AspNetCore.Hosting.Server.Features;
using Microsoft.AspNetCore.Server.Kestrel.Core;
using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.Hosting;
using Microsoft.Extensions.Logging;

namespace Fabric.Unit.Api;

/// <summary>Kestrel in this process on a free loopback port, with the real endpoints over fakes.</summary>
internal sealed class ApiServer : IAsyncDisposable
{
    private static readonly TimeSpan RawDeadline = TimeSpan.FromSeconds(20);

    private readonly WebApplication _app;

    private ApiServer(WebApplication app, Uri url)
    {
        _app = app;
        Url = url;
        Http = new HttpClient(new SocketsHttpHandler { UseProxy = false }) { BaseAddress = url, Timeout = TimeSpan.FromSeconds(30) };
    }

    public Uri Url { get; }

    public HttpClient Http { get; }

    public static Task<ApiServer> StartAsync(IControlPlane control) => StartAsync(HttpProtocols.Http1, app => app.MapControlApi(() => control, static () => []));

    public static Task<ApiServer> StartAsync(IHostAgent agent, HttpProtocols protocols = HttpProtocols.Http1) => StartAsync(protocols, app => app.MapAgentApi(agent));

    public static async Task<ApiServer> StartAsync(HttpProtocols protocols, Action<WebApplication> map)
    {
        var builder = WebApplication.CreateEmptyBuilder(new WebApplicationOptions());
        builder.Services.AddLogging(logging => logging.ClearProviders());
        builder.Services.Configure<HostOptions>(o => o.ShutdownTimeout = TimeSpan.FromSeconds(1));
        builder.WebHost.UseFabricServer([new HttpEndpoint(new IPEndPoint(IPAddress.Loopback, 0), protocols)]);
        var app = builder.Build();
        app.UseFabricGate();
        map(app);
        await app.StartAsync();
        string address = app.Services.GetRequiredService<IServer>().Features.Get<IServerAddressesFeature>()!.Addresses.First();
        return new ApiServer(app, new Uri(address));
    }

    /// <summary>Sends bytes as they are; what comes back until the server closes.</summary>
    public async Task<string> RawAsync(byte[] bytes)
    {
        using var deadline = new CancellationTokenSource(RawDeadline);
        using var socket = new Socket(AddressFamily.InterNetwork, SocketType.Stream, ProtocolType.Tcp);
        await socket.ConnectAsync(IPAddress.Loopback, Url.Port, deadline.Token);
        var answer = new StringBuilder();
        try
        {
            for (int sent = 0; sent < bytes.Length;)
                sent += await socket.SendAsync(bytes.AsMemory(sent), deadline.Token);
            byte[] buffer = new byte[64 * 1024];
            int read;
            while ((read = await socket.ReceiveAsync(buffer, deadline.Token)) > 0)
                answer.Append(Encoding.Latin1.GetString(buffer, 0, read));
        }
        catch (SocketException)
        {
            // Reset by the server: an answer too.
        }

        return answer.ToString();
    }

    public async ValueTask DisposeAsync()
    {
        Http.Dispose();
        await _app.StopAsync();
        await _app.DisposeAsync();
    }
}

/// <summary>Remembers what it was asked and answers that all went well.</summary>
internal sealed class FakeHostAgent : IHostAgent
{
    public List<AgentCommand> Commands { get; } = [];

    public FabricError? Refusal { get; set; }

    public (long After, TimeSpan Wait)? Asked { get; private set; }

    public Task<CommandResult> ExecuteAsync(AgentCommand command, CancellationToken cancellation)
    {
        Commands.Add(command);
        return Task.FromResult(new CommandResult(command.Header.Id, Refusal));
    }

    public Task<HostFacts> FactsAsync(long after, TimeSpan wait, CancellationToken cancellation)
    {
        Asked = (after, wait);
        return Task.FromResult(new HostFacts(HostName.Parse("alpha"), Guid.Empty, 9, new DataEndpoint("127.0.0.1", 7201), 1024, []));
    }

    public Task<byte[]?> ConsoleAsync(VmName vm, long offset, int most, CancellationToken cancellation) =>
        Task.FromResult(vm.Value == "web-1" ? Encoding.UTF8.GetBytes("boot\n") : null);
}
