using Fabric.Core;
using Fabric.Machines;

namespace Fabric.Integration.Qemu;

/// <summary>The smallest possible pull: a thread that answers faults, and a push of all the rest, straight from the stopped source's mapping.</summary>
internal sealed class Puller : IDisposable
{
    private readonly IMachine _source;
    private readonly IMissingPageTrap _trap;
    private readonly Thread _thread;
    private int _faults;
    private volatile bool _stop;
    private Exception? _failure;

    internal Puller(IMachine source, IMachine target)
    {
        _source = source;
        _trap = target.Memory.TrapMissing();
        _thread = new Thread(Serve) { IsBackground = true, Name = "test-puller" };
        _thread.Start();
    }

    internal int Faults => Volatile.Read(ref _faults);

    internal long Pushed { get; private set; }

    internal long AlreadyThere { get; private set; }

    internal void PushAll()
    {
        const int batch = 16;
        for (long page = 0; page < _source.Memory.PageCount; page += batch)
        {
            var run = new PageRun(page, (int)Math.Min(batch, _source.Memory.PageCount - page));
            var outcome = _trap.Install(run, AddressOf(page));
            if (outcome == InstallOutcome.MachineGone)
                throw new InvalidOperationException("The target is gone.");
            Pushed += run.Count;
            AlreadyThere += outcome == InstallOutcome.SomeAlreadyPresent ? 1 : 0;
        }
    }

    internal void StopServing()
    {
        _stop = true;
        _trap.Interrupt();
        _thread.Join();
        if (_failure is not null)
            throw new InvalidOperationException("The fault thread failed.", _failure);
    }

    public void Dispose()
    {
        StopServing();
        _trap.Dispose();
    }

    private nint AddressOf(long page) => _source.Memory.Address + (nint)(page * VmSpec.PageSize);

    private void Serve()
    {
        long[] pages = new long[64];
        try
        {
            while (!_stop)
            {
                int count = _trap.WaitFaults(pages, deadlineMilliseconds: 10_000);
                if (count < 0)
                    return;
                foreach (long page in pages.AsSpan(0, count))
                    _trap.Install(new PageRun(page, 1), AddressOf(page));
                Interlocked.Add(ref _faults, count);
            }
        }
        catch (Exception error)
        {
            _failure = error;
        }
    }
}
