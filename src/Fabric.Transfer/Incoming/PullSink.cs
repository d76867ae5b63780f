// The destination's side of the pull. Per page, in this order, which is what makes it safe beside the running guest:
//
//   guest touches a hole ─▶ trap reports it ─▶ fault thread:  not missing, or arrived already ─▶ zeros (or it is there: wake)
//                                                             missing, not yet wanted         ─▶ Want on the urgent connection
//   receivers: page in staging ─▶ digest checked ─▶ trap.Install (atomic, wakes) ─▶ arrived bit
//
// A page that the fault thread sees as "missing and not arrived" while a receiver is installing it is wanted in vain: the source claimed it
// for that receiver, so it does not answer. The install wakes the guest, but between install and arrived bit the guest may give the page
// back and touch it again, and that fault would wait for ever. So both sides look twice: the receiver sets the arrived bit and then wakes
// whoever waits for a wanted page; the fault thread sets the wanted bit and then looks at the arrived bit again. One of them sees the other,
// and a woken guest faults anew, now for a page that has arrived: zeros. Nobody reads a page of guest memory here.
using Fabric.Core;
using Fabric.Machines;
using Fabric.Native;
using Fabric.Transfer.Channels;
using Fabric.Wire.Data;

namespace Fabric.Transfer.Incoming;

/// <summary>Installs pulled pages (receivers) and answers the guest's faults (fault thread).</summary>
internal sealed class PullSink : IDisposable
{
    private readonly PullState _state;
    private readonly IMissingPageTrap _trap;
    private readonly TransferLife _life;
    private readonly PullFaults _faults;
    private readonly PageBitmap _wanted;
    private readonly int _pageSize;
    private readonly UInt128 _zeroDigest;
    private readonly TaskCompletionSource<bool> _all = new(TaskCreationOptions.RunContinuationsAsynchronously);
    private readonly TaskCompletionSource<bool> _faultsEnded = new(TaskCreationOptions.RunContinuationsAsynchronously);
    private readonly ManualResetEventSlim _allEvent = new();
    private volatile bool _faultsOver;
    private long _dataPages;
    private long _zeroPages;

    /// <param name="state">Sealed, with its trap armed.</param>
    public PullSink(PullState state, int pageSize, TransferLife life, TimeProvider time)
    {
        _state = state;
        _trap = state.Trap ?? throw new InvalidOperationException("The trap is not armed.");
        _life = life;
        _pageSize = pageSize;
        _faults = state.Faults ??= new PullFaults(time);
        _wanted = new PageBitmap(state.PageCount);
        _zeroDigest = Xxh3.Hash128(new byte[pageSize]);
        CheckAll();
    }

    /// <summary>Completes when no page is missing any more.</summary>
    public Task<bool> AllArrived => _all.Task;

    /// <summary>Completes when the fault thread touches the trap no more.</summary>
    public Task<bool> FaultsEnded => _faultsEnded.Task;

    public long DataPages => Volatile.Read(ref _dataPages);

    public long ZeroPages => Volatile.Read(ref _zeroPages);

    /// <summary>Installs a run from staging, or zeros if <paramref name="source"/> is 0. Any receiver. <paramref name="wanted"/>: it came as the answer to a want.</summary>
    /// <exception cref="FabricException">malformed: not missing, or sent twice; machine-failed.</exception>
    public void Install(PageRun run, nint source, bool wanted)
    {
        for (long page = run.First; page < run.End; page++)
        {
            if (!_state.Missing.Bit(page) || _state.Arrived.Bit(page))
                throw new FabricException(ErrorCodes.Malformed, $"The peer sent page {page}, which is {(_state.Missing.Bit(page) ? "here already" : "not missing")}.");
            if (_state.Digests is not null)
                _state.SetDigest(page, source == 0 ? _zeroDigest : Xxh3.Hash128(source + (nint)((page - run.First) * _pageSize), _pageSize));
        }

        InstallOutcome outcome = source == 0 ? _trap.InstallZeros(run) : _trap.Install(run, source);
        if (outcome == InstallOutcome.MachineGone)
            throw Gone();
        // SomeAlreadyPresent: installed before a crash of the agent, without its mark. What is there is younger.
        for (long page = run.First; page < run.End; page++)
        {
            _state.MarkArrived(page);
            if (!_wanted[page])
                continue;
            _faults.End(page, asked: wanted);
            _trap.Wake(new PageRun(page, 1));
        }

        Interlocked.Add(ref source == 0 ? ref _zeroPages : ref _dataPages, run.Count);
        CheckAll();
    }

    /// <summary>
    /// Lets every waiter fault again: those whose fault an earlier agent or an earlier connection took and never answered are seen anew.
    /// </summary>
    public void WakeAll()
    {
        for (long first = 0; first < _state.PageCount;)
        {
            int count = (int)Math.Min(_state.PageCount - first, 1 << 18);
            _trap.Wake(new PageRun(first, count));
            first += count;
        }
    }

    /// <summary>Blocks a receiver until no page is missing; false when the deadline passes.</summary>
    public bool WaitAll(TimeSpan deadline, CancellationToken ended) => _allEvent.Wait(deadline, ended);

    /// <summary>The fault thread: until the transfer is over or <see cref="EndFaults"/>. A machine that loads its state touches holes too, also where no page is missing any more.</summary>
    public void ServeFaults(DataChannel urgent)
    {
        try
        {
            FaultLoop(urgent);
        }
        finally
        {
            _faultsEnded.TrySetResult(true);
        }
    }

    /// <summary>When no thread is in it any more. The trap stays as it is.</summary>
    public void Dispose() => _allEvent.Dispose();

    public void Interrupt() => _trap.Interrupt();

    /// <summary>Every page is here and the trap is about to be removed, which lets all who wait go on: nobody needs an answer any more.</summary>
    public void EndFaults()
    {
        _faultsOver = true;
        _trap.Interrupt();
    }

    private void FaultLoop(DataChannel urgent)
    {
        long[] faults = new long[256];
        long[] want = new long[faults.Length];
        byte[] body = new byte[want.Length * 8];
        while (!_life.IsOver && !_faultsOver)
        {
            int count = _trap.WaitFaults(faults, 250);
            if (count < 0)
                throw Gone();
            int wanted = 0;
            for (int i = 0; i < count; i++)
            {
                if (MustFetch(faults[i]))
                    want[wanted++] = faults[i];
            }

            if (wanted > 0)
                urgent.Send(FrameKind.Want, 0, body.AsSpan(0, WantList.Write(want.AsSpan(0, wanted), body)));
        }
    }

    private void CheckAll()
    {
        if (!_state.IsComplete)
            return;
        _allEvent.Set();
        _all.TrySetResult(true);
    }

    // True if the page must be asked for. Else it has been answered, is being asked for, or its installer will wake the guest.
    private bool MustFetch(long page)
    {
        if (IsMissing(page))
        {
            if (_wanted[page])
                return false;
            _faults.Begin(page); // before the installer can see that it is wanted
            _wanted.AtomicSet(page);
            if (IsMissing(page))
                return true;
            _faults.End(page, asked: false);
        }
        else if (!_faults.End(page, asked: false))
        {
            _faults.CountMinor();
        }

        FillHole(page);
        return false;
    }

    private bool IsMissing(long page) => _state.Missing.Bit(page) && !_state.Arrived.Bit(page);

    // What has arrived and is a hole was given back by the guest; what was never missing is a hole at the source too: zeros.
    private void FillHole(long page)
    {
        PageRun run = new(page, 1);
        switch (_trap.InstallZeros(run))
        {
            case InstallOutcome.SomeAlreadyPresent:
                _trap.Wake(run);
                break;
            case InstallOutcome.MachineGone:
                throw Gone();
        }
    }

    private static FabricException Gone() => new(ErrorCodes.MachineFailed, "The machine is gone: its pages cannot be installed.");
}
