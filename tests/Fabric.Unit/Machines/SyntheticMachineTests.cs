using Fabric.Core;
using Fabric.Machines;
using Fabric.Machines.Synthetic;
using Fabric.Native;
using Xunit;

namespace Fabric.Unit.Machines;

public sealed class SyntheticMachineTests : IDisposable
{
    private static readonly TimeSpan Deadline = TimeSpan.FromSeconds(30);

    private readonly SyntheticBench _bench = new();

    public void Dispose() => _bench.Dispose();

    [Theory]
    [InlineData("idle:1")]
    [InlineData("read-heavy:2:1M")]
    [InlineData("write-heavy:3:2M")]
    [InlineData("write-heavy:18446744073709551615:4096")]
    [InlineData("write-heavy:5:12K")]
    [InlineData("oracle:4")]
    public async Task A_guest_left_alone_finds_no_error_and_its_memory_is_what_the_registers_say(string workload)
    {
        await using var machine = await _bench.CreateAsync(SyntheticBench.Spec(workload), MachineBirth.Boot);
        for (int i = 0; i < 20; i++)
        {
            Assert.Equal(997, machine.Step(997));
            await machine.StopAsync(default);
            Assert.Equal(0, machine.Errors);
            Assert.Equal(0, machine.CountWrongPages());
            await machine.ContinueAsync(default);
        }
    }

    [Fact]
    public async Task The_byte_oracle_has_at_most_one_step_at_any_moment()
    {
        await using var machine = await _bench.CreateAsync(SyntheticBench.Spec("oracle:4", megabytes: 1), MachineBirth.Boot);
        bool stepSeen = false;
        for (int i = 0; i < 200; i++)
        {
            machine.Step(13);
            int steps = SyntheticBench.Steps(machine.Memory);
            Assert.InRange(steps, 0, 1);
            stepSeen |= steps == 1;
        }

        Assert.True(stepSeen);
    }

    [Fact]
    public async Task The_same_seed_does_the_same_and_another_one_does_not()
    {
        async Task<byte[]> RunAsync(string workload)
        {
            await using var machine = await _bench.CreateAsync(SyntheticBench.Spec(workload), MachineBirth.Boot);
            machine.Step(5000);
            await machine.StopAsync(default);
            return await machine.SaveDeviceStateAsync(true, default);
        }

        Assert.Equal(await RunAsync("write-heavy:7"), await RunAsync("write-heavy:7"));
        Assert.NotEqual((await RunAsync("write-heavy:7")).AsSpan(32).ToArray(), (await RunAsync("write-heavy:8")).AsSpan(32).ToArray());
    }

    [Theory]
    [InlineData(0)]
    [InlineData(4088)]
    public async Task A_changed_word_is_found_by_the_guest_and_by_the_observer(int offset)
    {
        await using var machine = await _bench.CreateAsync(SyntheticBench.Spec("oracle:4", megabytes: 1), MachineBirth.Boot);
        machine.Step(1000);
        await machine.StopAsync(default);
        nint word = SyntheticBench.PageOf(machine.Memory, 77) + offset;
        GuestBytes.Write(word, GuestBytes.Read(word) ^ 0x100);
        Assert.Equal(1, machine.CountWrongPages());
        await machine.ContinueAsync(default);
        machine.Step(1000);
        Assert.True(machine.Errors > 0);
    }

    [Fact]
    public async Task Only_touched_pages_are_present_and_reads_leave_holes()
    {
        await using var machine = await _bench.CreateAsync(SyntheticBench.Spec("write-heavy:3:1M"), MachineBirth.Boot);
        var present = new PageBitmap(machine.Memory.PageCount);
        machine.Memory.ReadPresence(present);
        Assert.True(present.IsEmpty);
        machine.Step(2000);
        machine.Memory.ReadPresence(present);
        Assert.Equal(256, present.CountSet());
        Assert.Equal(-1, present.NextSet(256));
        machine.Memory.Discard(new PageRun(100, 50));
        machine.Memory.ReadPresence(present);
        Assert.Equal(206, present.CountSet());
        Assert.True(GuestBytes.IsZero(SyntheticBench.PageOf(machine.Memory, 100), 50 * 4096));
    }

    /// <summary>Ticks come at their times whatever the guest does in them, so what a tick holds is its speed.</summary>
    [Fact]
    public async Task A_guest_that_is_held_back_does_less_in_each_tick()
    {
        await using var machine = await _bench.CreateAsync(SyntheticBench.Spec("write-heavy:3:1M:50000"), MachineBirth.Boot);
        machine.Step(2000);
        await machine.Throttle!.SetAsync(10, default);
        machine.Step(1200);
        machine.Throttle.Lift();
        machine.Step(1100);
        var operations = File.ReadLines(machine.ConsoleLog).Select(static line => long.Parse(line.Split(' ')[^1], System.Globalization.CultureInfo.InvariantCulture)).ToList();
        // The tick under way keeps its length.
        Assert.Equal([1000, 2000, 3000, 3100, 3200, 3300, 4300], operations);
    }

    [Fact]
    public async Task A_live_guest_runs_stands_runs_again_and_writes_its_heartbeat()
    {
        await using var machine = await _bench.CreateAsync(SyntheticBench.Spec("write-heavy:3:1M:50000"), MachineBirth.Boot, SyntheticDrive.Live);
        Assert.Equal(MachineStatus.Running, await machine.QueryStatusAsync(default));
        await AdvanceAsync(machine, 1);
        await machine.StopAsync(default);
        await machine.StopAsync(default);
        Assert.Equal(MachineStatus.Paused, await machine.QueryStatusAsync(default));
        long standing = machine.Operations;
        byte[] first = await machine.SaveDeviceStateAsync(false, default);
        Assert.Equal(0, machine.CountWrongPages());
        Assert.Equal(first, await machine.SaveDeviceStateAsync(false, default));
        Assert.Equal(standing, machine.Operations);
        await machine.ContinueAsync(default);
        await AdvanceAsync(machine, standing + 1);
        await machine.StopAsync(default);
        string[] lines = await ReadConsoleAsync(machine);
        Assert.NotEmpty(lines);
        Assert.All(lines, line => Assert.Matches(@"^tick \d+ time \d+\.\d{6} errors 0 ops \d+$", line));
        Assert.Equal(Enumerable.Range(1, lines.Length).Select(i => $"{i}"), lines.Select(line => line.Split(' ')[1]));
    }

    [Fact]
    public async Task Killing_ends_everything_and_removes_the_console()
    {
        var machine = await _bench.CreateAsync(SyntheticBench.Spec("oracle:3"), MachineBirth.Boot, SyntheticDrive.Live);
        var trap = machine.Memory.TrapMissing();
        await machine.KillAsync(default);
        await machine.KillAsync(default);
        Assert.Equal(MachineStatus.Exited, await machine.QueryStatusAsync(default));
        Assert.Contains("killed", await machine.Exited.WaitAsync(Deadline), StringComparison.Ordinal);
        Assert.False(File.Exists(machine.ConsoleLog));
        Assert.Equal(-1, trap.WaitFaults(new long[1], 1000));
        Assert.Equal(InstallOutcome.MachineGone, trap.InstallZeros(new PageRun(0, 1)));
        await Assert.ThrowsAsync<FabricException>(async () => await machine.ContinueAsync(default));
    }

    [Theory]
    [InlineData("sleepy:1")]
    [InlineData("idle:x")]
    [InlineData("idle:-1")]
    [InlineData("idle:1:8M")]
    [InlineData("idle:1:1000")]
    [InlineData("idle:1:0")]
    [InlineData("idle:1:1M:0")]
    [InlineData("idle:1:1M:10000001")]
    [InlineData("idle:1:1M:1:1")]
    [InlineData("")]
    public async Task A_workload_that_makes_no_sense_is_refused(string workload)
    {
        var refused = await Assert.ThrowsAsync<FabricException>(() => _bench.CreateAsync(SyntheticBench.Spec(workload), MachineBirth.Boot));
        Assert.Equal(ErrorCodes.InvalidArgument, refused.Error.Code);
    }

    [Fact]
    public async Task A_hostile_device_state_is_refused_and_changes_nothing()
    {
        var spec = SyntheticBench.Spec("write-heavy:3:1M");
        await using var source = await _bench.CreateAsync(spec, MachineBirth.Boot);
        source.Step(100);
        await source.StopAsync(default);
        byte[] good = await source.SaveDeviceStateAsync(true, default);
        await using var destination = await _bench.CreateAsync(spec, MachineBirth.Incoming);
        await using var other = await _bench.CreateAsync(SyntheticBench.Spec("write-heavy:4:1M"), MachineBirth.Incoming);
        List<byte[]> bad = [[], good[..^1], [.. good, 0], new byte[good.Length]];
        for (int bit = 0; bit < good.Length * 8; bit += 3)
        {
            byte[] flipped = [.. good];
            flipped[bit / 8] ^= (byte)(1 << (bit % 8));
            bad.Add(flipped);
        }

        foreach (byte[] state in bad)
        {
            await Assert.ThrowsAsync<FabricException>(async () => await destination.LoadDeviceStateAsync(state, default));
            Assert.Equal(MachineStatus.AwaitingState, await destination.QueryStatusAsync(default));
        }

        var incompatible = await Assert.ThrowsAsync<FabricException>(async () => await other.LoadDeviceStateAsync(good, default));
        Assert.Equal(ErrorCodes.Incompatible, incompatible.Error.Code);
        await Assert.ThrowsAsync<FabricException>(async () => await destination.ContinueAsync(default));
        await destination.LoadDeviceStateAsync(good, default);
        Assert.Equal(MachineStatus.Paused, await destination.QueryStatusAsync(default));
        Assert.Equal(good, await destination.SaveDeviceStateAsync(true, default));
    }

    private static async Task AdvanceAsync(SyntheticMachine machine, long operations)
    {
        // The heartbeat is the event: a line appears for each tick, that is 20 ms of a guest that runs.
        long begun = TimeProvider.System.GetTimestamp();
        while (machine.Operations < operations || (await ReadConsoleAsync(machine)).Length < 2)
        {
            Assert.True(TimeProvider.System.GetElapsedTime(begun) < Deadline, "The guest does not run.");
            await Task.Yield();
        }
    }

    private static async Task<string[]> ReadConsoleAsync(SyntheticMachine machine)
    {
        await using var file = new FileStream(machine.ConsoleLog, FileMode.Open, FileAccess.Read, FileShare.ReadWrite | FileShare.Delete);
        using var reader = new StreamReader(file);
        return (await reader.ReadToEndAsync()).Split('\n', StringSplitOptions.RemoveEmptyEntries);
    }
}
