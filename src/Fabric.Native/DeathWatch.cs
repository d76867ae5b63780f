using System.Runtime.InteropServices;
using Fabric.Core;

namespace Fabric.Native;

/// <summary>
/// Tells when processes end: one named thread waits in <c>poll</c> on all their pidfds.
/// <para>Protocol: callers add an entry to <c>_arrivals</c> under the lock and set the signal; only the thread touches the poll set. It takes
/// arrivals over, polls, and completes the tasks of those whose pidfd became readable. Disposal sets a flag and the signal; the thread
/// cancels what is left. At most <see cref="Capacity"/> processes.</para>
/// </summary>
public sealed class DeathWatch : IDisposable
{
    public const int Capacity = 4 * Limits.VmsPerHost;

    // The thread is woken by its signal; the period only bounds the harm of a lost wake-up.
    private const int PeriodMilliseconds = 10_000;

    private readonly Lock _gate = new();
    private readonly List<Entry> _arrivals = [];
    private readonly EventSignal _signal = new();
    private readonly Thread _thread;
    private int _count;
    private bool _stopping;

    public DeathWatch()
    {
        _thread = new Thread(Run, maxStackSize: 256 * 1024) { IsBackground = true, Name = "fabric-death-watch" };
        _thread.Start();
    }

    /// <summary>
    /// Completes once the process has ended; cancelled when <see cref="Release"/> or this watch's disposal comes first.
    /// </summary>
    public Task WhenExited(ProcessHandle process)
    {
        ArgumentNullException.ThrowIfNull(process);
        var entry = new Entry(process, new TaskCompletionSource(TaskCreationOptions.RunContinuationsAsynchronously));
        lock (_gate)
        {
            ObjectDisposedException.ThrowIf(_stopping, this);
            if (_count == Capacity)
                throw new FabricException(ErrorCodes.Exhausted, $"{Capacity} processes are watched already.");
            _count++;
            _arrivals.Add(entry);
        }

        _signal.Set();
        return entry.Completion.Task;
    }

    /// <summary>Disposes the handle and stops watching it. Idempotent; also after this watch was disposed.</summary>
    public void Release(ProcessHandle process)
    {
        ArgumentNullException.ThrowIfNull(process);
        process.Dispose();
        lock (_gate)
        {
            if (_stopping)
                return;

            // The poll under way still holds the descriptor open; wake it so that it is closed now. Under the lock: the signal lives until _stopping.
            _signal.Set();
        }
    }

    public void Dispose()
    {
        lock (_gate)
        {
            if (_stopping)
                return;
            _stopping = true;
        }

        _signal.Set();
        _thread.Join();
        _signal.Dispose();
    }

    private void Run()
    {
        var watched = new List<Entry>();
        while (TakeArrivals(watched))
        {
            if (Poll(watched))
                _signal.Clear();
        }

        foreach (var entry in watched)
            entry.Completion.TrySetCanceled();
    }

    private bool TakeArrivals(List<Entry> watched)
    {
        lock (_gate)
        {
            watched.AddRange(_arrivals);
            _arrivals.Clear();
            _count = watched.Count;
            return !_stopping;
        }
    }

    /// <summary>Waits once, completes and removes the ended; true when the signal was set.</summary>
    private unsafe bool Poll(List<Entry> watched)
    {
        var held = new List<Entry>(watched.Count);
        try
        {
            var set = new LinuxCalls.PollDescriptor[watched.Count + 1];
            set[0] = new LinuxCalls.PollDescriptor { Descriptor = (int)_signal.DangerousGetHandle(), Events = LinuxCalls.PollIn };
            for (int i = watched.Count - 1; i >= 0; i--)
            {
                if (watched[i].TryHold())
                    continue;
                watched[i].Completion.TrySetCanceled();
                watched.RemoveAt(i);
            }

            held.AddRange(watched);
            for (int i = 0; i < watched.Count; i++)
                set[i + 1] = new LinuxCalls.PollDescriptor { Descriptor = (int)watched[i].Process.Descriptor.DangerousGetHandle(), Events = LinuxCalls.PollIn };

            fixed (LinuxCalls.PollDescriptor* first = set)
            {
                // SAFETY: the array is pinned and longer than the count; the descriptors are held open.
                if (LinuxCalls.Poll(first, (nuint)(watched.Count + 1), PeriodMilliseconds) < 0 && Marshal.GetLastPInvokeError() != Errno.Interrupted)
                    throw NativeError.Last("poll of pidfds");
            }

            for (int i = watched.Count - 1; i >= 0; i--)
            {
                if (set[i + 1].Returned == 0)
                    continue;
                watched[i].Completion.TrySetResult();
                watched.RemoveAt(i);
            }

            return set[0].Returned != 0;
        }
        finally
        {
            foreach (var entry in held)
                entry.Process.Descriptor.DangerousRelease();
        }
    }

    private sealed record Entry(ProcessHandle Process, TaskCompletionSource Completion)
    {
        internal bool TryHold()
        {
            bool held = false;
            try
            {
                Process.Descriptor.DangerousAddRef(ref held);
            }
            catch (ObjectDisposedException)
            {
                // Its owner let go of the process; nobody waits any more.
            }

            return held;
        }
    }
}
