using Fabric.Core;

namespace Fabric.Machines.Synthetic;

/// <summary>Faults of the software MMU on their way to the agent. The guest raises, one agent thread waits.</summary>
internal sealed class SyntheticTrap(SyntheticMemory memory) : IMissingPageTrap
{
    /// <summary>Faults that may wait unseen. A further one is dropped here; the guest raises it again each time it looks up.</summary>
    private const int MaxPending = 512;

    private readonly object _gate = new();
    private readonly Queue<long> _pending = new();
    private bool _interrupted;
    private bool _disposed;

    public int WaitFaults(Span<long> pages, int deadlineMilliseconds)
    {
        ArgumentOutOfRangeException.ThrowIfNegative(deadlineMilliseconds);
        if (pages.IsEmpty)
            throw new ArgumentException("There must be room for one page.", nameof(pages));
        lock (_gate)
        {
            if (_pending.Count == 0 && !_interrupted && !memory.IsGone && !_disposed)
                Monitor.Wait(_gate, deadlineMilliseconds);
            _interrupted = false;
            if (memory.IsGone)
                return -1;
            int count = 0;
            while (count < pages.Length && _pending.TryDequeue(out long page))
                pages[count++] = page;
            return count;
        }
    }

    public void Interrupt()
    {
        lock (_gate)
        {
            _interrupted = true;
            Monitor.PulseAll(_gate);
        }
    }

    public InstallOutcome Install(PageRun run, nint source)
    {
        if (source == 0)
            throw new ArgumentException("The source is no address.", nameof(source));
        return memory.Install(run, source);
    }

    public InstallOutcome InstallZeros(PageRun run) => memory.Install(run, 0);

    public void Wake(PageRun run) => memory.WakeGuest();

    public void Dispose()
    {
        lock (_gate)
        {
            _disposed = true;
            Monitor.PulseAll(_gate);
        }

        memory.Disarm(this);
    }

    internal void Raise(long page)
    {
        lock (_gate)
        {
            if (_pending.Count >= MaxPending || (_pending.Count > 0 && _pending.Peek() == page))
                return;
            _pending.Enqueue(page);
            Monitor.PulseAll(_gate);
        }
    }
}
