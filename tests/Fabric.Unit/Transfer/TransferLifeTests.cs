using Fabric.Core;
using Fabric.Transfer.Channels;
using Microsoft.Extensions.Logging.Abstractions;
using Xunit;

namespace Fabric.Unit.Transfer;

/// <summary>The order of "the answer came" and "the transfer ended" is what counts, not which of the two wakes the waiter first.</summary>
public sealed class TransferLifeTests
{
    [Fact]
    public async Task An_answer_that_came_before_the_end_is_not_lost()
    {
        for (int i = 0; i < 200; i++)
        {
            using var life = new TransferLife("test", TimeProvider.System, NullLogger.Instance);
            var answer = new TaskCompletionSource<int>(TaskCreationOptions.RunContinuationsAsynchronously);
            var waiting = life.WithinAsync(answer.Task, TimeSpan.FromSeconds(30), "the answer", CancellationToken.None);

            // As the control thread does it: the last word, then the end of the connection, while the waiter has not run yet.
            answer.SetResult(i);
            life.Fail(new FabricException(ErrorCodes.Unreachable, "closed"));
            Assert.Equal(i, await waiting);
        }
    }

    [Fact]
    public async Task An_answer_that_never_came_ends_with_what_ended_the_transfer()
    {
        using var life = new TransferLife("test", TimeProvider.System, NullLogger.Instance);
        var answer = new TaskCompletionSource<int>(TaskCreationOptions.RunContinuationsAsynchronously);
        var waiting = life.WithinAsync(answer.Task, TimeSpan.FromSeconds(30), "the answer", CancellationToken.None);
        life.Fail(new FabricException(ErrorCodes.Unreachable, "closed"));
        var error = await Assert.ThrowsAsync<FabricException>(() => waiting);
        Assert.Equal(ErrorCodes.Unreachable, error.Error.Code);
    }
}
