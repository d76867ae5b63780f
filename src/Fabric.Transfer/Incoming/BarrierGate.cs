using Fabric.Core;
using Fabric.Transfer.Channels;

namespace Fabric.Transfer.Incoming;

/// <summary>
/// Where the receivers of all bulk connections meet. Barrier n stands between the frames before it and the frames after it on every
/// connection: a receiver that reaches it waits until all have, so that a page that is sent again after the barrier on another connection cannot
/// be overtaken by its older self. The last to come says so to the source. A barrier missing, repeated or out of order is a broken protocol.
/// </summary>
internal sealed class BarrierGate(int receivers, TransferLife life, TimeProvider time, TimeSpan deadline, Action<long> reached)
{
    private readonly object _gate = new();
    private long _passed;
    private int _arrived;
    private long _awaited = long.MaxValue;
    private TaskCompletionSource<bool>? _waiter;

    /// <summary>Called by a receiver. Returns when all have reached the barrier.</summary>
    /// <exception cref="FabricException">malformed; deadline-exceeded; or what ended the transfer.</exception>
    public void Arrive(ulong number)
    {
        lock (_gate)
        {
            if (number != (ulong)(_passed + 1))
                throw new FabricException(ErrorCodes.Malformed, $"The peer sent barrier {number} after {_passed}.");
            if (++_arrived == receivers)
            {
                _arrived = 0;
                _passed++;
                // Said under the lock, so that barriers are confirmed in order.
                reached(_passed);
                if (_passed >= _awaited)
                    _waiter?.TrySetResult(true);
                Monitor.PulseAll(_gate);
                return;
            }

            long began = time.GetTimestamp();
            while (_passed < (long)number)
            {
                Monitor.Wait(_gate, 250);
                life.ThrowIfOver();
                if (time.GetElapsedTime(began) > deadline)
                    throw new FabricException(ErrorCodes.DeadlineExceeded, $"Barrier {number} was reached by {_arrived} of {receivers} bulk connections within {deadline.TotalSeconds:0} s.");
            }
        }
    }

    /// <summary>Completes when the barrier was passed. One caller.</summary>
    public Task<bool> PassedAsync(long number)
    {
        lock (_gate)
        {
            if (_passed >= number)
                return Task.FromResult(true);
            _awaited = number;
            _waiter = new TaskCompletionSource<bool>(TaskCreationOptions.RunContinuationsAsynchronously);
            return _waiter.Task;
        }
    }
}
