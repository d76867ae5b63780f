using System.Text;
using System.Text.Json;
using Fabric.Core;
using Fabric.Machines.Qemu;
using Xunit;

namespace Fabric.Unit.Qemu;

/// <summary>The QMP client against a server that says what it wants: answers, nothing, too much, or rubbish.</summary>
public sealed class QmpClientTests
{
    private static readonly TimeSpan Long = TimeSpan.FromSeconds(30);
    private static readonly TimeSpan Short = TimeSpan.FromMilliseconds(50);

    [Fact]
    public async Task Answers_find_their_callers_and_events_come_in_order()
    {
        await using var server = new FakeQmpServer(async s =>
        {
            await s.GreetAsync();
            string first = await s.ReadAsync();
            string second = await s.ReadAsync();
            Assert.Equal("""{"execute":"query-status","id":2}""", first);
            Assert.Equal("""{"exec-oob":"yank","id":3,"arguments":{"x":1}}""", second);
            await s.SayAsync("""{"event": "STOP", "timestamp": {}}""");
            await s.SayAsync("""{"return": {"n": 3}, "id": 3}""");
            await s.SayAsync("""{"event": "MIGRATION", "data": {"status": "completed"}}""" + "\n" + """{"return": {"n": 2}, "id": 2}""");
            await s.HoldAsync();
        });
        var events = new List<string>();
        using var client = await ConnectAsync(server, e => events.Add(e.Name + QmpJson.Text(e.Data, "status")));
        var first = client.ExecuteAsync("query-status", null, Long, default).AsTask();
        var second = client.ExecuteAsync("yank", w => w.WriteNumber("x", 1), Long, default, outOfBand: true).AsTask();
        Assert.Equal(3, QmpJson.Number(await second, "n"));
        Assert.Equal(2, QmpJson.Number(await first, "n"));
        Assert.Equal(["STOP", "MIGRATIONcompleted"], events);
    }

    [Fact]
    public async Task Refusal_names_the_command_and_the_connection_lives_on()
    {
        await using var server = new FakeQmpServer(async s =>
        {
            await s.GreetAsync();
            await s.ReadAsync();
            await s.SayAsync("""{"id": 2, "error": {"class": "GenericError", "desc": "Failed to get \"write\" lock"}}""");
            await s.ReadAsync();
            await s.SayAsync("""{"id": 3, "error": 17}""");
            await s.ReadAsync();
            await s.SayAsync("""{"id": 4, "return": 5}""");
            await s.HoldAsync();
        });
        using var client = await ConnectAsync(server);
        var refused = await Assert.ThrowsAsync<FabricException>(() => RunAsync(client, "cont"));
        Assert.Equal(ErrorCodes.MachineFailed, refused.Error.Code);
        Assert.Contains("'cont': Failed to get \"write\" lock", refused.Message, StringComparison.Ordinal);
        Assert.Contains("no reason given", (await Assert.ThrowsAsync<FabricException>(() => RunAsync(client, "x"))).Message, StringComparison.Ordinal);
        Assert.Equal(JsonValueKind.Number, (await RunAsync(client, "y")).ValueKind);
    }

    [Fact]
    public async Task Hanging_command_ends_at_its_deadline_and_its_late_answer_is_dropped()
    {
        var late = new TaskCompletionSource();
        await using var server = new FakeQmpServer(async s =>
        {
            await s.GreetAsync();
            await s.ReadAsync();
            await late.Task;
            await s.SayAsync("""{"return": "late", "id": 2}""");
            await s.ReadAsync();
            await s.SayAsync("""{"return": "next", "id": 3}""");
            await s.HoldAsync();
        });
        using var client = await ConnectAsync(server);
        var hung = await Assert.ThrowsAsync<FabricException>(async () => await client.ExecuteAsync("stop", null, Short, default));
        Assert.Equal(ErrorCodes.DeadlineExceeded, hung.Error.Code);
        late.SetResult();
        Assert.Equal("next", (await RunAsync(client, "query-status")).GetString());
    }

    [Fact]
    public async Task Cancelled_call_ends_at_once()
    {
        await using var server = new FakeQmpServer(async s =>
        {
            await s.GreetAsync();
            await s.HoldAsync();
        });
        using var client = await ConnectAsync(server);
        using var cancel = new CancellationTokenSource();
        var call = client.ExecuteAsync("stop", null, Long, cancel.Token).AsTask();
        await cancel.CancelAsync();
        await Assert.ThrowsAnyAsync<OperationCanceledException>(() => call);
    }

    [Fact]
    public async Task Silent_server_is_taken_for_one_that_another_agent_holds()
    {
        await using var server = new FakeQmpServer(s => s.HoldAsync());
        var error = await Assert.ThrowsAsync<FabricException>(() => QmpClient.ConnectAsync(server.Path, Short, TimeProvider.System, _ => { }, default));
        Assert.Equal(ErrorCodes.Conflict, error.Error.Code);
        Assert.Contains("another agent", error.Message, StringComparison.Ordinal);
    }

    [Fact]
    public async Task Missing_socket_is_unreachable()
    {
        var error = await Assert.ThrowsAsync<FabricException>(() => QmpClient.ConnectAsync("/nonexistent/qmp", Long, TimeProvider.System, _ => { }, default));
        Assert.Equal(ErrorCodes.Unreachable, error.Error.Code);
    }

    [Theory]
    [InlineData("HTTP/1.1 400 Bad Request")]
    [InlineData("[]")]
    [InlineData("17")]
    [InlineData("{}")]
    [InlineData("""{"return": {}}""")]
    [InlineData("""{"return": {}, "id": "two"}""")]
    [InlineData("""{"return": {}, "id": 999}""")]
    [InlineData("""{"event": 5}""")]
    [InlineData("""{"return": {}, "id": 2""")]
    [InlineData("\u0000\u0001\u0002")]
    public async Task Rubbish_breaks_the_connection_and_nothing_else(string line)
    {
        await using var server = new FakeQmpServer(async s =>
        {
            await s.GreetAsync();
            await s.ReadAsync();
            await s.SayAsync(line);
            await s.HoldAsync();
        });
        using var client = await ConnectAsync(server);
        Assert.Equal(ErrorCodes.MachineFailed, (await Assert.ThrowsAsync<FabricException>(() => RunAsync(client, "stop"))).Error.Code);
        Assert.True(client.IsBroken);
        await Assert.ThrowsAsync<FabricException>(() => RunAsync(client, "stop"));
    }

    [Fact]
    public async Task Rubbish_instead_of_a_greeting_is_not_qmp()
    {
        await using var server = new FakeQmpServer(async s =>
        {
            await s.SayAsync("SSH-2.0-OpenSSH");
            await s.HoldAsync();
        });
        var error = await Assert.ThrowsAsync<FabricException>(() => ConnectAsync(server));
        Assert.Contains("does not speak QMP: 'SSH-2.0", error.Message, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData(10_000, false)]
    [InlineData(70_000, true)]
    public async Task Line_within_the_bound_is_read_and_a_longer_one_breaks_the_connection(int length, bool tooLong)
    {
        await using var server = new FakeQmpServer(async s =>
        {
            await s.GreetAsync();
            await s.ReadAsync();
            await s.SayRawAsync(Encoding.UTF8.GetBytes("{\"id\": 2, \"return\": \"" + new string('x', length) + "\"}\n"));
            await s.HoldAsync();
        });
        using var client = await ConnectAsync(server, lineBytesMost: 64 * 1024);
        if (!tooLong)
            Assert.Equal(length, (await RunAsync(client, "query-qmp-schema")).GetString()!.Length);
        else
            Assert.Contains("more than 65536 bytes", (await Assert.ThrowsAsync<FabricException>(() => RunAsync(client, "x"))).Message, StringComparison.Ordinal);
    }

    [Fact]
    public async Task Closed_connection_fails_every_waiting_call()
    {
        await using var server = new FakeQmpServer(async s =>
        {
            await s.GreetAsync();
            await s.ReadAsync();
            await s.ReadAsync();
            s.Close();
        });
        using var client = await ConnectAsync(server);
        var calls = new[] { RunAsync(client, "a"), RunAsync(client, "b") };
        foreach (var call in calls)
            Assert.Equal(ErrorCodes.MachineFailed, (await Assert.ThrowsAsync<FabricException>(() => call)).Error.Code);
    }

    [Fact]
    public async Task One_byte_at_a_time_is_still_a_line()
    {
        await using var server = new FakeQmpServer(async s =>
        {
            await s.GreetAsync();
            await s.ReadAsync();
            foreach (byte b in Encoding.UTF8.GetBytes("{\"id\": 2, \"return\": {}}\n"))
                await s.SayRawAsync(new[] { b });
            await s.HoldAsync();
        });
        using var client = await ConnectAsync(server);
        Assert.Equal(JsonValueKind.Object, (await RunAsync(client, "stop")).ValueKind);
    }

    private static Task<QmpClient> ConnectAsync(FakeQmpServer server, Action<QmpEvent>? onEvent = null, int lineBytesMost = Limits.QmpLineBytes) =>
        QmpClient.ConnectAsync(server.Path, Long, TimeProvider.System, onEvent ?? (_ => { }), default, lineBytesMost);

    private static Task<JsonElement> RunAsync(QmpClient client, string command) => client.ExecuteAsync(command, null, Long, default).AsTask();
}
