using Fabric.Core;
using Fabric.Machines;
using Fabric.Native;

namespace Fabric.Unit.Transfer;

internal sealed partial class FakeGuest
{
    private sealed class FakeTrap(FakeGuest guest) : IMissingPageTrap
    {
        private readonly Queue<long> _faults = new();
        private bool _interrupted;
        private bool _waiting;

        public bool IsIdle => _waiting && _faults.Count == 0;

        public void Report(long page)
        {
            _faults.Enqueue(page);
            Monitor.PulseAll(guest._gate);
        }

        public int WaitFaults(Span<long> pages, int deadlineMilliseconds)
        {
            lock (guest._gate)
            {
                if (_faults.Count == 0 && !_interrupted)
                {
                    _waiting = true;
                    Monitor.PulseAll(guest._gate);
                    Monitor.Wait(guest._gate, deadlineMilliseconds);
                    _waiting = false;
                }

                _interrupted = false;
                int count = 0;
                while (count < pages.Length && _faults.TryDequeue(out long page))
                    pages[count++] = page;
                return count;
            }
        }

        public void Interrupt()
        {
            lock (guest._gate)
            {
                _interrupted = true;
                Monitor.PulseAll(guest._gate);
            }
        }

        public InstallOutcome Install(PageRun run, nint source) => Install(run, source, zeros: false);

        public InstallOutcome InstallZeros(PageRun run) => Install(run, 0, zeros: true);

        public void Wake(PageRun run)
        {
            lock (guest._gate)
                guest.WakeWaiters();
        }

        public void Dispose()
        {
            lock (guest._gate)
            {
                guest._trap = null;
                guest.TrapGone = true;
                guest.WakeWaiters();
            }
        }

        private InstallOutcome Install(PageRun run, nint source, bool zeros)
        {
            InstallOutcome outcome = Put(run, source, zeros);
            guest.WhenInstalled?.Invoke(run);
            return outcome;
        }

        private InstallOutcome Put(PageRun run, nint source, bool zeros)
        {
            lock (guest._gate)
            {
                InstallOutcome outcome = InstallOutcome.Installed;
                for (long page = run.First; page < run.End; page++)
                {
                    if (guest._present[page])
                    {
                        outcome = InstallOutcome.SomeAlreadyPresent;
                        continue;
                    }

                    if (zeros)
                        PageBytes.Fill(guest.At(page), guest.PageSize, 0);
                    else
                        PageBytes.Copy(source + (nint)((page - run.First) * guest.PageSize), guest.At(page), guest.PageSize);
                    guest._present[page] = true;
                }

                guest.WakeWaiters();
                return outcome;
            }
        }
    }
}
