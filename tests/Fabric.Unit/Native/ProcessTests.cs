using System.Diagnostics;
using System.Globalization;
using Fabric.Native;
using Xunit;

namespace Fabric.Unit.Native;

public sealed class ProcessTests
{
    private const string Tail = " 1 1 0 -1 4194560 0 0 0 0 0 0 0 0 20 0 1 0 987654 0 0";

    [Theory]
    [InlineData("42 (qemu-system-x86) S 7" + Tail)]
    [InlineData("42 (a b) c) ) S 7" + Tail)]
    [InlineData("42 () S 7" + Tail + "\n")]
    public void Start_time_is_found_behind_any_program_name(string text)
    {
        Assert.True(ProcessStat.TryParse(text, out var stat));
        Assert.Equal(new ProcessStat('S', 7, 987654), stat);
    }

    [Theory]
    [InlineData("")]
    [InlineData("42")]
    [InlineData("42 (x")]
    [InlineData("42 (x)")]
    [InlineData("42 (x) S")]
    [InlineData("42 (x) S seven" + Tail)]
    [InlineData("42 (x) SS 7" + Tail)]
    [InlineData("42 (x) S 7 1 1 0 -1 4194560 0 0 0 0 0 0 0 0 20 0 1 0 never")]
    public void Text_that_is_no_stat_line_is_refused(string text) => Assert.False(ProcessStat.TryParse(text, out _));

    [Fact]
    public void Own_process_is_the_same_process_and_a_recycled_number_is_not()
    {
        var own = ProcessIdentity.Of(Environment.ProcessId);
        Assert.NotNull(own);
        Assert.True(own.IsAlive());
        Assert.False((own with { StartTicks = own.StartTicks + 1 }).IsAlive());
        Assert.False((own with { BootId = "another boot" }).IsAlive());
        using var handle = ProcessHandle.TryOpen(own);
        Assert.NotNull(handle);
        Assert.False(handle.HasExited);
        Assert.Null(ProcessHandle.TryOpen(own with { StartTicks = own.StartTicks + 1 }));
    }

    [Fact]
    public async Task Death_of_a_process_completes_the_watch_and_closes_its_identity()
    {
        using var watch = new DeathWatch();
        using var process = Process.Start("sleep", "60");
        using var handle = ProcessHandle.TryOpen(process.Id);
        Assert.NotNull(handle);
        var death = watch.WhenExited(handle);
        Assert.False(death.IsCompleted);
        handle.SendKill();
        await death.WaitAsync(TimeSpan.FromSeconds(20));
        Assert.True(handle.HasExited);
        Assert.False(handle.Identity.IsAlive());
        handle.SendKill();
    }

    [Fact]
    public async Task Released_process_is_no_longer_waited_for()
    {
        using var watch = new DeathWatch();
        var own = ProcessHandle.TryOpen(Environment.ProcessId);
        Assert.NotNull(own);
        var death = watch.WhenExited(own);
        watch.Release(own);
        await Assert.ThrowsAnyAsync<OperationCanceledException>(() => death.WaitAsync(TimeSpan.FromSeconds(20)));
        watch.Release(own);
    }

    [Fact]
    public void Mapping_is_found_by_its_whole_name_and_joined_from_pieces()
    {
        const string maps = """
            00400000-00500000 r-xp 00000000 08:01 1                          /usr/bin/x y
            7f0000000000-7f0000001000 rw-s 00000000 00:19 5                          /dev/shm/a b/ram2
            7f0000100000-7f0000102000 rw-s 00000000 00:19 4                          /dev/shm/a b/ram
            VmFlags: rd wr sh mr mw me ms um sd
            7f0000102000-7f0000104000 rw-s 00002000 00:19 4                          /dev/shm/a b/ram
            VmFlags: rd wr sh mr mw me ms uw sd
            7f0000200000-7f0000201000 rw-p 00000000 00:00 0
            VmFlags: rd um
            """;
        var found = ProcessMappings.Parse(new StringReader(maps), "/dev/shm/a b/ram", 0x4000);
        Assert.Equal(new FileMapping(0x7f0000100000, 0x7f0000104000, UserFaultModes.Missing | UserFaultModes.WriteProtect), found);
        Assert.Null(ProcessMappings.Parse(new StringReader(maps), "/dev/shm/a b/ram", 0x5000));
        Assert.Null(ProcessMappings.Parse(new StringReader(maps), "/dev/shm/a b", 0x1000));
        Assert.Null(ProcessMappings.Parse(new StringReader("garbage\n\n- - -\n"), "/x", 1));
    }

    [Fact]
    public void Parent_of_a_child_is_this_process()
    {
        using var process = Process.Start("sleep", "60");
        Assert.Equal(Environment.ProcessId, ProcessStat.Read(process.Id)?.ParentId);
        process.Kill();
        process.WaitForExit();
        Assert.Null(ProcessStat.Read(int.Parse("2147483646", CultureInfo.InvariantCulture)));
    }
}
