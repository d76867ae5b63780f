using Fabric.Core;
using Fabric.Migration;

namespace Fabric.Supervisor;

/// <summary>
/// Lets batches start migrations without going over the limits together: whoever asks counts what runs and reserves in one step.
/// A reservation lasts until the started migration is on the board. Any thread.
/// </summary>
internal sealed class MovementGate(Board board)
{
    private readonly Lock _gate = new();
    private readonly List<Reservation> _reserved = []; // under _gate; short: one for each start that is being asked for

    /// <summary>Null when a limit is reached.</summary>
    public IDisposable? TryReserve(VmName vm, Movement movement, BatchLimits limits)
    {
        lock (_gate)
        {
            var (from, to, link) = board.Traffic.Count(movement);
            foreach (var other in _reserved)
            {
                if (board.Traffic.Moves(other.Vm))
                    continue; // counted already
                from += other.Movement.Source == movement.Source ? 1 : 0;
                to += other.Movement.Destination == movement.Destination ? 1 : 0;
                link += other.Movement == movement ? 1 : 0;
            }

            if (!limits.Admit(from, to, link))
                return null;
            var reservation = new Reservation(this, vm, movement);
            _reserved.Add(reservation);
            return reservation;
        }
    }

    private sealed class Reservation(MovementGate gate, VmName vm, Movement movement) : IDisposable
    {
        public VmName Vm => vm;

        public Movement Movement => movement;

        public void Dispose()
        {
            lock (gate._gate)
                gate._reserved.Remove(this);
        }
    }
}
