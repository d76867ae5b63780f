using System.Runtime;
using Fabric.Daemon.Rehearsals;
using Fabric.Transfer;
using Xunit;

namespace Fabric.Unit.Daemon;

/// <summary>Proof by the runtime's own count of what this thread had compiled when an asynchronous method was called for the first time, and waited.</summary>
public sealed class EarlyCompilationTests
{
    // The method and its body; of the box: constructor, context, MoveNext twice, the callback, the end; and what makes the box.
    private const int ByMethod = 9;

    [Fact]
    public void A_method_that_waits_for_the_first_time_finds_what_parks_it()
    {
        // The same in another class: what both call of the runtime is there.
        _ = Compiled(Before.WaitAsync);
        long late = Compiled(Late.WaitAsync);

        _ = EarlyCompilation.Run([typeof(EarlyCompilationTests).Assembly], CancellationToken.None).Sum();

        // What remains is inlined in a process without tiers, as fabricd is; the process of the tests has them.
        Assert.InRange(Compiled(Early.WaitAsync), 0, late - ByMethod);
    }

    [Fact]
    public void Every_method_of_the_data_plane_can_be_compiled() =>
        Assert.InRange(EarlyCompilation.Run([typeof(TransferSettings).Assembly], CancellationToken.None).Sum(), 500, 5000);

    [Fact]
    public void It_ends_when_it_is_told_to() =>
        Assert.Throws<OperationCanceledException>(() => EarlyCompilation.Run([typeof(TransferSettings).Assembly], new CancellationToken(canceled: true)).Sum());

    /// <summary>Between two steps whoever compiles can look at the guests, or end.</summary>
    [Fact]
    public void A_step_is_short() =>
        Assert.InRange(EarlyCompilation.Run([typeof(TransferSettings).Assembly], CancellationToken.None).Max(), 1, 100);

    private static long Compiled(Func<Task, Task<int>> method)
    {
        var open = new TaskCompletionSource();
        long before = JitInfo.GetCompiledMethodCount(currentThread: true);
        var waiting = method(open.Task);
        open.SetResult();
        long after = JitInfo.GetCompiledMethodCount(currentThread: true);
        Assert.True(waiting.IsCompletedSuccessfully);
        return after - before;
    }

    private static class Before
    {
        public static async Task<int> WaitAsync(Task open)
        {
            await open;
            return 1;
        }
    }

    private static class Late
    {
        public static async Task<int> WaitAsync(Task open)
        {
            await open;
            return 2;
        }
    }

    private static class Early
    {
        public static async Task<int> WaitAsync(Task open)
        {
            await open;
            return 3;
        }
    }
}
