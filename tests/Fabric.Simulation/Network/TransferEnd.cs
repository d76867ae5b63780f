using Fabric.Core;
using Fabric.Simulation.Processes;

namespace Fabric.Simulation.Network;

/// <summary>What both ends of a transfer share: one error that ends it, and waits that end with it, with a deadline, or when they are called off.</summary>
internal abstract class TransferEnd(SimProcess process) : IEnd
{
    private readonly List<Action<FabricError>> _waiting = [];

    protected FabricError? Broken { get; private set; }

    protected SimProcess Process => process;

    internal TaskCompletionSource<FabricError?> Ended { get; } = new();

    public abstract void Hear(Message message);

    public void Break(FabricError error)
    {
        if (Broken is not null)
            return;
        Broken = error;
        foreach (var fail in _waiting.ToList())
            fail(error);
        _waiting.Clear();
        Ended.TrySetResult(error);
    }

    protected void RequireWhole()
    {
        if (Broken is { } error)
            throw new FabricException(error);
    }

    protected async Task<T> WithinAsync<T>(TaskCompletionSource<T> answer, TimeSpan deadline, string what, CancellationToken cancellation)
    {
        if (answer.Task.IsCompleted)
            return await answer.Task;
        RequireWhole();
        void Fail(FabricError error) => answer.TrySetException(new FabricException(error));
        _waiting.Add(Fail);
        await using var timer = process.Clock.CreateTimer(
            _ => Fail(new FabricError(ErrorCodes.DeadlineExceeded, $"{what} did not come within {deadline.TotalSeconds:0} s.")), null, deadline, Timeout.InfiniteTimeSpan);
        await using var registration = cancellation.Register(() => answer.TrySetCanceled(cancellation));
        try
        {
            return await answer.Task;
        }
        finally
        {
            _waiting.Remove(Fail);
        }
    }
}
