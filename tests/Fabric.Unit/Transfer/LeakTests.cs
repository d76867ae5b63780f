using System.Diagnostics;
using Fabric.Core;
using Fabric.Transfer;
using Xunit;

namespace Fabric.Unit.Transfer;

/// <summary>Threads that a transfer made are gone when it was disposed. Counted by name, since other tests run beside this one; seen at work first.</summary>
public sealed class LeakTests
{
    // Its own id, so that its threads are not mistaken for another test's.
    private static readonly MigrationId Id = MigrationId.Parse("1ea41ea41ea41ea41ea41ea41ea41ea4");

    private static readonly TimeSpan GoneWithin = TimeSpan.FromSeconds(2);

    [Fact(Timeout = 60_000)]
    public async Task A_disposed_transfer_leaves_no_thread_whether_it_ended_well_or_not()
    {
        for (int i = 0; i < 12; i++)
            await MoveAsync(finish: i % 2 == 0);
        // Joining a thread returns a moment before the kernel has taken it from its list.
        long joined = TimeProvider.System.GetTimestamp();
        while (Threads() > 0 && TimeProvider.System.GetElapsedTime(joined) < GoneWithin)
            await Task.Delay(TimeSpan.FromMilliseconds(5), TimeProvider.System, CancellationToken.None);
        Assert.Equal(0, Threads());
    }

    private static async Task MoveAsync(bool finish)
    {
        await using TransferPair pair = new(64, bulk: 8, migration: Id);
        await pair.ConnectAsync();
        await pair.Outgoing.PushRoundAsync(default);
        Assert.True(Threads() >= 20, $"{Threads()} threads: the count sees nothing");
        if (!finish)
            return;
        await pair.FinishAsync(HandOverKind.Pull);
        await pair.TokenAsync();
        await pair.Outgoing.ServePullAsync(default);
        await pair.Running;
    }

    private static int Threads()
    {
        using Process self = Process.GetCurrentProcess();
        return Directory.EnumerateDirectories($"/proc/{self.Id}/task").Count(t => Comm(t).StartsWith("out-1ea41ea4", StringComparison.Ordinal) || Comm(t).StartsWith("in-1ea41ea4", StringComparison.Ordinal));
    }

    private static string Comm(string task)
    {
        try
        {
            return File.ReadAllText(Path.Combine(task, "comm"));
        }
        catch (IOException)
        {
            return "";
        }
    }
}
