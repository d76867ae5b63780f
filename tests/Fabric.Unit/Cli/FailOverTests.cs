using System.Net;
using Fabric.Actors.Testing;
using Fabric.Core;
using Fabric.Migration;
using Fabric.Wire.Api;
using Xunit;

namespace Fabric.Unit.Cli;

/// <summary>
/// Which requests go on to the next control node. Nodes are scripted: <c>x</c> refuses connections, <c>!</c> breaks off after it was asked, <c>-</c> is not in its cluster,
/// <c>r</c> refuses what is asked, <c>w</c> answers when it is let, <c>+</c> at once. What each node was asked is compared, so a request that may have been executed and is repeated would be seen.
/// </summary>
public sealed class FailOverTests
{
    private static readonly VmName Web = VmName.Parse("web");
    private static readonly VmSpec Spec = new() { Name = Web, Machine = MachineKind.Synthetic, MemoryBytes = ByteSize.Mebi };

    [Theory]
    [InlineData("list", "x+", "ok", "1 2")]
    [InlineData("list", "!+", "ok", "1 2")]
    [InlineData("list", "-+", "ok", "1 2")]
    [InlineData("list", "xx+", "ok", "1 2 3")]
    [InlineData("list", "r+", ErrorCodes.Conflict, "1")]
    [InlineData("list", "x", ErrorCodes.Unreachable, "1")]
    [InlineData("list", "-", ErrorCodes.NotHeld, "1")]
    [InlineData("migrate", "x+", "ok", "1 2")]
    [InlineData("migrate", "!+", "ok", "1 2")]
    [InlineData("migrate", "-+", "ok", "1 2")]
    [InlineData("migrate", "!", ErrorCodes.Unreachable, "1")]
    [InlineData("migrate without an id", "x+", "ok", "1 2")]
    [InlineData("migrate without an id", "!+", ErrorCodes.DeadlineExceeded, "1")]
    [InlineData("evacuate", "!+", "ok", "1 2")]
    [InlineData("cordon", "!+", "ok", "1 2")]
    [InlineData("create", "x+", "ok", "1 2")]
    [InlineData("create", "-+", "ok", "1 2")]
    [InlineData("create", "!+", ErrorCodes.DeadlineExceeded, "1")]
    [InlineData("create", "x!", ErrorCodes.DeadlineExceeded, "1 2")]
    [InlineData("delete", "!+", ErrorCodes.DeadlineExceeded, "1")]
    [InlineData("delete", "r+", ErrorCodes.Conflict, "1")]
    [InlineData("abort", "!+", ErrorCodes.DeadlineExceeded, "1")]
    public async Task A_request_goes_on_only_where_that_is_safe(string request, string nodes, string expected, string asked)
    {
        using var network = new Network(nodes);
        using var client = network.Connect();
        string outcome = "ok";
        try
        {
            await AskAsync(client, request);
        }
        catch (FabricException refused)
        {
            outcome = refused.Error.Code;
        }

        Assert.Equal((expected, asked), (outcome, string.Join(' ', network.Asked)));
    }

    [Fact]
    public async Task The_client_stays_with_the_node_that_answers()
    {
        using var network = new Network("x+");
        var moves = new List<string>();
        using var client = network.Connect((from, _, to) => moves.Add($"{from.Port} {to.Port}"));
        for (int i = 0; i < 3; i++)
            await client.VmsAsync(default);
        Assert.Equal([1, 2, 2, 2], network.Asked);
        Assert.Equal(["1 2"], moves);
    }

    [Fact]
    public async Task No_node_at_all_is_found_out_within_a_bound()
    {
        using var network = new Network("xxx");
        using var client = network.Connect();
        var error = await Assert.ThrowsAsync<FabricException>(() => client.VmsAsync(default)).WaitAsync(TimeSpan.FromSeconds(60));
        Assert.Equal(ErrorCodes.Unreachable, error.Error.Code);
        Assert.Contains("None of 3 control nodes", error.Error.Message, StringComparison.Ordinal);
        Assert.InRange(network.Asked.Count, 3, 300);
    }

    /// <summary>Whoever waits is told what for, in time and once; an answer that comes soon is not waited for.</summary>
    [Fact]
    public async Task A_node_that_is_slow_is_named()
    {
        ManualTime time = new();
        using var network = new Network("w");
        var slow = new List<int>();
        using var client = new ControlClient([new Uri("http://127.0.0.1:1/")], time, new Random(1), network) { Slow = url => slow.Add(url.Port) };
        for (int i = 0; i < 2; i++)
        {
            var answer = client.VmsAsync(default);
            time.Advance(ControlClient.SlowAfter - TimeSpan.FromMilliseconds(1));
            if (i == 0)
            {
                Assert.Empty(slow);
                time.Advance(TimeSpan.FromSeconds(10));
            }

            network.Gate.Release();
            await answer;
            time.Advance(TimeSpan.FromSeconds(10));
            Assert.Equal([1], slow);
        }
    }

    /// <summary>What a router may send again: a node that was not reached has done nothing, one that broke off may have.</summary>
    [Theory]
    [InlineData("x", ErrorCodes.NotHeld)]
    [InlineData("!", ErrorCodes.DeadlineExceeded)]
    public async Task Between_nodes_a_refused_connection_is_certain(string node, string expected)
    {
        using var network = new Network(node);
        using var client = new ControlClient(new Uri("http://127.0.0.1:1/"), network) { UntouchedCode = ErrorCodes.NotHeld };
        var error = await Assert.ThrowsAsync<FabricException>(() => AskAsync(client, "create"));
        Assert.Equal(expected, error.Error.Code);
    }

    [Fact]
    public async Task A_repeated_migration_carries_the_same_request_id()
    {
        using var network = new Network("!!+");
        using var client = network.Connect();
        await AskAsync(client, "migrate");
        Assert.Equal(3, network.Bodies.Count);
        Assert.Single(network.Bodies.Distinct());
    }

    private static async Task AskAsync(ControlClient client, string request)
    {
        var migrate = new MigrateRequest(Web, HostName.Parse("beta"), MigrationOptions.Default, Guid.NewGuid());
        switch (request)
        {
            case "list":
                await client.VmsAsync(default);
                break;
            case "migrate":
                await client.MigrateAsync(migrate, default);
                break;
            case "migrate without an id":
                await client.MigrateAsync(migrate with { RequestId = null }, default);
                break;
            case "evacuate":
                await client.EvacuateAsync(new EvacuateRequest(HostName.Parse("beta"), null, false, MigrationOptions.Default, Guid.NewGuid()), default);
                break;
            case "cordon":
                await client.SetCordonedAsync(HostName.Parse("beta"), cordoned: true, null, default);
                break;
            case "create":
                await client.CreateVmAsync(new CreateVmRequest(Spec, HostName.Parse("beta")), default);
                break;
            case "delete":
                await client.DeleteVmAsync(Web, force: false, default);
                break;
            default:
                await client.AbortAsync("0192", null, default);
                break;
        }
    }

    /// <summary>Node n listens at port n.</summary>
    private sealed class Network(string nodes) : HttpMessageHandler
    {
        public List<int> Asked { get; } = [];

        public List<string> Bodies { get; } = [];

        /// <summary>Opened once for each answer of a node <c>w</c>.</summary>
        public SemaphoreSlim Gate { get; } = new(0);

        public ControlClient Connect(Action<Uri, string, Uri>? movedOn = null) =>
            new([.. nodes.Select(static (_, i) => new Uri($"http://127.0.0.1:{i + 1}/"))], TimeProvider.System, new Random(1), this) { MovedOn = movedOn };

        protected override async Task<HttpResponseMessage> SendAsync(HttpRequestMessage request, CancellationToken cancellationToken)
        {
            int node = request.RequestUri!.Port;
            Asked.Add(node);
            if (request.Content is not null)
                Bodies.Add(await request.Content.ReadAsStringAsync(cancellationToken));
            if (nodes[node - 1] == 'w')
                await Gate.WaitAsync(cancellationToken);
            return nodes[node - 1] switch
            {
                'x' => throw new HttpRequestException(HttpRequestError.ConnectionError, "refused"),
                '!' => throw new HttpRequestException(HttpRequestError.ResponseEnded, "the connection was reset"),
                '-' => Answer(HttpStatusCode.ServiceUnavailable, $$"""{"code":"{{ErrorCodes.NotHeld}}","message":"not in its cluster","hint":null,"id":null}"""),
                'r' => Answer(HttpStatusCode.Conflict, $$"""{"code":"{{ErrorCodes.Conflict}}","message":"no","hint":null,"id":null}"""),
                _ => Answer(HttpStatusCode.OK, Body(request)),
            };
        }

        private static HttpResponseMessage Answer(HttpStatusCode status, string json) => new(status) { Content = new StringContent(json, System.Text.Encoding.UTF8, "application/json") };

        private static string Body(HttpRequestMessage request) => (request.Method.Method, request.RequestUri!.AbsolutePath) switch
        {
            ("GET", _) => """{"items":[]}""",
            (_, "/v1/vms") => """{"name":"web","host":"beta","state":"running","machine":"synthetic","accelerator":"auto","memory_bytes":1,"vcpus":1,"epoch":1,"process_id":null,"migration":null,"spec":{"name":"web","memory_bytes":1048576}}""",
            (_, "/v1/evacuations") => """{"id":"0192","host":"beta","state":"running","dry_run":false,"items":[],"started_at":"2026-01-01T00:00:00Z","total_ms":null}""",
            (_, "/v1/migrations") => """
                {"id":"0192f0c0000000000000000000000001","vm":"web","source":"alpha","destination":"beta","mode":"auto","state":"planned","reason":null,"error":null,
                "started_at":"2026-01-01T00:00:00Z","total_ms":null,"downtime_ms":null,"resume_ms":null,"rounds":0,
                "memory":{"total_bytes":1,"wire_bytes":0,"pages_sent":0,"pages_zero":0,"pages_resent":0,"pages_from_source":{}},"faults":{"network":null,"minor":null,"median_us":null,"p99_us":null},
                "disk":null,"verified":null,"verify":"frames","epoch":1,"progress":null,"batch":null}
                """,
            _ => """{"name":"beta","state":"cordoned","cordoned":true,"agent_url":null,"data":null,"memory_bytes":1,"memory_free_bytes":1,"cpus":1,"vms":[],"last_seen":null,"version":null}""",
        };
    }
}
