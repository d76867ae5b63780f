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
    private readonly List<Reservation> _reserved = [];

    /// <summary>Null when a limit is reached.</summary>
    public IDisposable? TryReserve(VmName vm, Movement movement, BatchLimits limits)
    {
        lock (_gate)
        {
            var reservedVms = _reserved.Select(static r => r.Vm).ToHashSet();
            var running = board.Migrations.OfType<ActiveState>()
                .Where(m => !reservedVms.Contains(m.Plan.Vm))
                .Select(static m => new Movement(m.Plan.Source, m.Plan.Destination))
                .Concat(_reserved.Select(static r => r.Movement))
                .ToList();
            if (BatchPlanner.Admit([movement], running, limits).Count == 0)
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
