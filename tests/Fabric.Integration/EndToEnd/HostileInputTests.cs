using System.Buffers.Binary;
using System.Globalization;
using System.Net;
using System.Net.Sockets;
using System.Text;
using Fabric.Cli;
using Fabric.Core;
using Xunit;

namespace Fabric.Integration.EndToEnd;

/// <summary>
/// Strangers at every port of a running cluster, and wrong words to the CLI. Needs neither root nor QEMU. The proof is in what follows: the same
/// processes live, the log or the answer says what was refused and why, and a guest that keeps its memory checked still moves.
/// </summary>
public sealed class HostileInputTests
{
    private static readonly TimeSpan AnswerWithin = TimeSpan.FromSeconds(20);

    [Fact]
    public async Task Strangers_at_every_port_are_refused_and_moves_go_on()
    {
        await using var bench = await ClusterBench.StartAsync(hosts: 2);
        await bench.DoAsync("vm", "create", "web", "--machine", "synthetic", "--memory", "32M", "--workload", "write-heavy:7:8M:500", "--on", "alpha");
        var before = Processes(bench);
        Uri[] ports = [bench.UrlOf("control", "api_url"), bench.UrlOf("control", "cluster_url"), bench.UrlOf("alpha", "agent_url"), bench.UrlOf("beta", "agent_url")];
        foreach (var port in ports)
        {
            foreach (byte[] bytes in Noise())
                await SendAsync(port.Host, port.Port, bytes);
        }

        var data = (await bench.Client.HostAsync(HostName.Parse("beta"), CancellationToken.None)).Data!;
        foreach (byte[] bytes in Noise().Concat(Hellos()))
            await SendAsync(data.Address, data.Port, bytes);
        Assert.Equal(before, Processes(bench));
        await MovesAsync(bench, "beta");
    }

    [Fact]
    public async Task The_data_port_says_what_it_refused_and_why()
    {
        await using var bench = await ClusterBench.StartAsync(hosts: 1);
        var data = (await bench.Client.HostAsync(HostName.Parse("alpha"), CancellationToken.None)).Data!;

        // Who does not speak the protocol gets no answer, but the log has what it said.
        Assert.Empty(await SendAsync(data.Address, data.Port, "GET /v1/vms HTTP/1.1\r\nHost: x\r\n\r\n"u8.ToArray()));
        await ClusterBench.EventuallyAsync(() => Task.FromResult(bench.LogOf("alpha").Contains("GET /v1/vms", StringComparison.Ordinal)), "the log names what came", 10);

        Assert.Contains("version 9", await SendAsync(data.Address, data.Port, Hello(version: 9)), StringComparison.Ordinal);
        Assert.Contains("ticket", await SendAsync(data.Address, data.Port, Hello()), StringComparison.Ordinal);
        Assert.Contains("connection", await SendAsync(data.Address, data.Port, Hello(channel: 77)), StringComparison.Ordinal);
        Assert.Contains("hello of 10 bytes", await SendAsync(data.Address, data.Port, Hello()[..10], close: true), StringComparison.Ordinal);
    }

    [Fact]
    public async Task Wrong_words_are_refused_with_the_value_and_the_right_exit_code()
    {
        await using var bench = await ClusterBench.StartAsync(hosts: 2);
        await bench.DoAsync("vm", "create", "web", "--machine", "synthetic", "--memory", "32M", "--on", "alpha");
        var wrong = new List<string>();
        foreach (var (words, exit, names) in WrongWords)
        {
            var said = await bench.RunAsync(words.Split(' '));
            bool clear = said.Talk.Contains("error: ", StringComparison.Ordinal) && said.Talk.Contains(names, StringComparison.Ordinal);
            if (said.Exit != exit || !clear || said.Out.Length > 0 || said.Talk.Contains("   at ", StringComparison.Ordinal))
                wrong.Add($"fabric {words}: expected exit {exit} and '{names}' on stderr; {said}");
        }

        Assert.True(wrong.Count == 0, string.Join("\n", wrong));
        Assert.Equal("web", Assert.Single(await bench.Client.VmsAsync(CancellationToken.None)).Name.Value);
        await MovesAsync(bench, "beta");
    }

    [Fact]
    public async Task A_second_move_of_the_same_guest_is_refused_and_names_the_first()
    {
        await using var bench = await ClusterBench.StartAsync(hosts: 3);
        await bench.DoAsync("vm", "create", "web", "--machine", "synthetic", "--memory", "64M", "--workload", "write-heavy:7:64M:2000", "--on", "alpha");
        var first = await bench.AskAsync("migrate", "web", "--to", "beta", "--mode", "pre-copy", "--bandwidth", "4M");
        string id = first.GetProperty("id").GetString()!;
        foreach (string to in (string[])["beta", "gamma"])
        {
            var second = await bench.RunAsync("migrate", "web", "--to", to);
            Assert.Equal(ExitCode.Failed, second.Exit);
            Assert.Contains(id, second.Talk, StringComparison.Ordinal);
            Assert.Contains("conflict", second.Talk, StringComparison.Ordinal);
        }

        await bench.DoAsync("migration", "abort", id, "--reason", "test");
        await ClusterBench.EventuallyAsync(
            async () => (await bench.Client.MigrationAsync(id, CancellationToken.None)).State == "aborted", "the first move is aborted");
        await MovesAsync(bench, "gamma");
    }

    private static readonly IReadOnlyList<(string Words, int Exit, string Names)> WrongWords =
    [
        ("vm create UPPER --machine synthetic --memory 32M --on alpha", ExitCode.Usage, "UPPER"),
        ("vm create ../x --machine synthetic --memory 32M --on alpha", ExitCode.Usage, "../x"),
        ("vm create zero --machine synthetic --memory 0 --on alpha", ExitCode.Usage, "memory"),
        ("vm create odd --machine synthetic --memory 1234567 --on alpha", ExitCode.Usage, "1234567"),
        ("vm create huge --machine synthetic --memory 99999999999T --on alpha", ExitCode.Usage, "99999999999T"),
        ("vm create unit --machine synthetic --memory 12Q --on alpha", ExitCode.Usage, "12Q"),
        ("vm create none --machine synthetic --memory 32M --vcpus 0 --on alpha", ExitCode.Usage, "0 vcpus"),
        ("vm create many --machine synthetic --memory 32M --vcpus 300 --on alpha", ExitCode.Usage, "300 vcpus"),
        ("vm create kind --machine vax --memory 32M --on alpha", ExitCode.Usage, "vax"),
        ("vm create lost --machine synthetic --memory 32M --on nowhere", ExitCode.Failed, "nowhere"),
        ("vm create web --machine synthetic --memory 32M --on alpha", ExitCode.Failed, "web"),
        ("vm create big --machine synthetic --memory 2T --on alpha", ExitCode.Failed, "memory"),
        ("vm create load --machine synthetic --memory 32M --workload dance --on alpha", ExitCode.Usage, "dance"),
        ("vm show nosuch", ExitCode.Failed, "nosuch"),
        ("vm delete nosuch", ExitCode.Failed, "nosuch"),
        ("vm console nosuch", ExitCode.Failed, "nosuch"),
        ("host show nosuch", ExitCode.Failed, "nosuch"),
        ("migrate nosuch --to beta", ExitCode.Failed, "nosuch"),
        ("migrate web --to nowhere", ExitCode.Failed, "nowhere"),
        ("migrate web --to alpha", ExitCode.Usage, "already"),
        ("migrate web --to beta --mode sideways", ExitCode.Usage, "sideways"),
        ("migrate web --to beta --verify maybe", ExitCode.Usage, "maybe"),
        ("migrate web --to beta --bandwidth 1", ExitCode.Usage, "1"),
        ("migrate web --to beta --bandwidth -5", ExitCode.Usage, "-5"),
        ("migrate web --to beta --max-downtime 0", ExitCode.Usage, "0 ms"),
        ("migrate web --to beta --connections 999", ExitCode.Usage, "999"),
        ("migrate web", ExitCode.Usage, "--to"),
        ("migration show zzz", ExitCode.Usage, "zzz"),
        ("migration abort 00000000000000000000000000000000", ExitCode.Failed, "00000000"),
        ("evacuate nosuch", ExitCode.Failed, "nosuch"),
        ("evacuate alpha --parallel 0", ExitCode.Usage, "0"),
    ];

    private static Dictionary<string, int?> Processes(ClusterBench bench) =>
        bench.Cluster.Record.Members.ToDictionary(m => m.Name, m => bench.Cluster.ProcessOf(m.Name)?.ProcessId);

    /// <summary>The guest moves, verified in full, and its own checker found nothing.</summary>
    private static async Task MovesAsync(ClusterBench bench, string to)
    {
        var moved = await bench.AskAsync("migrate", "web", "--to", to, "--verify", "full", "--wait");
        Assert.Equal("completed", moved.GetProperty("state").GetString());
        Assert.True(moved.GetProperty("verified").GetBoolean());
        await ClusterBench.EventuallyAsync(
            async () => (await bench.DoAsync("vm", "console", "web")).Out.Contains("tick ", StringComparison.Ordinal), "the guest speaks at its new host");
        string console = (await bench.DoAsync("vm", "console", "web")).Out;
        Assert.All(console.Split('\n').Where(l => l.StartsWith("tick ", StringComparison.Ordinal) && l.Contains(" ops ", StringComparison.Ordinal)), l => Assert.Contains("errors 0 ", l, StringComparison.Ordinal));
    }

    private static IEnumerable<byte[]> Noise()
    {
        for (int seed = 1; seed <= 5; seed++)
        {
            byte[] bytes = new byte[16 * 1024];
            new Random(seed).NextBytes(bytes);
            yield return bytes;
        }

        yield return [];
        yield return [0];
        yield return new byte[64];
        yield return "GET / HTTP/1.0\r\n\r\n"u8.ToArray();
        yield return "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\xff\xff\xff\xff\xff\xff\xff\xff\xff"u8.ToArray();
        yield return "POST /v1/migrations HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 99999999999\r\n\r\n{"u8.ToArray();
        yield return Encoding.ASCII.GetBytes(new string('A', 1 << 20));
    }

    private static IEnumerable<byte[]> Hellos()
    {
        yield return Hello()[..4];
        yield return Hello()[..63];
        yield return Hello(version: 0);
        yield return Hello(version: ushort.MaxValue);
        yield return Hello(channel: 255);
        yield return [.. Hello(), .. Enumerable.Repeat((byte)0xff, 4096)];
    }

    /// <summary>The 64 bytes of docs/PROTOCOL.md, written here by hand; the ticket is nobody's.</summary>
    private static byte[] Hello(ushort version = 1, byte channel = 1)
    {
        byte[] hello = new byte[64];
        "FBRC"u8.CopyTo(hello);
        BinaryPrimitives.WriteUInt16LittleEndian(hello.AsSpan(4), version);
        hello[6] = channel;
        hello.AsSpan(8, 48).Fill(0x5a);
        return hello;
    }

    /// <summary>Sends it and returns what came back until the other end closed. A peer that neither answers nor closes fails the test.</summary>
    private static async Task<string> SendAsync(string address, int port, byte[] bytes, bool close = true)
    {
        using var deadline = new CancellationTokenSource(AnswerWithin, TimeProvider.System);
        using var socket = new Socket(SocketType.Stream, ProtocolType.Tcp);
        await socket.ConnectAsync(new IPEndPoint(IPAddress.Parse(address), port), deadline.Token);
        var answer = new StringBuilder();
        byte[] buffer = new byte[4096];
        try
        {
            await socket.SendAsync(bytes, deadline.Token);
            if (close)
                socket.Shutdown(SocketShutdown.Send);
            for (int read; (read = await socket.ReceiveAsync(buffer, deadline.Token)) > 0;)
                answer.Append(Encoding.Latin1.GetString(buffer, 0, read));
        }
        catch (SocketException)
        {
            // Closed while still being sent to: refused all the same.
        }
        catch (OperationCanceledException)
        {
            Assert.Fail(string.Create(CultureInfo.InvariantCulture, $"Port {port} neither answered nor closed within {AnswerWithin.TotalSeconds} s after {bytes.Length} bytes."));
        }

        return answer.ToString();
    }
}
