using System.Text;
using Fabric.Core;
using Fabric.Machines.Guests;

namespace Fabric.Benchmarks.Compare;

/// <summary>
/// Notes when the beats of a guest arrive, on this machine's clock, from its serial logs at both hosts; on a task of its own until it is disposed of.
/// </summary>
internal sealed class WorkWatch : IAsyncDisposable
{
    private static readonly TimeSpan Between = TimeSpan.FromMilliseconds(10);
    private static readonly TimeSpan BeatWithin = TimeSpan.FromSeconds(60);

    /// <summary>In which as many beats come as its pace is read from, and one more.</summary>
    private static readonly TimeSpan PaceWithin = TimeSpan.FromSeconds(3.5);

    private readonly TimeProvider _time;
    private readonly long _origin;
    private readonly Follower[] _consoles;
    private readonly CancellationTokenSource _over = new();
    private readonly Lock _gate = new();
    private readonly List<WorkSample> _samples = []; // under _gate
    private readonly Task _watching;

    /// <param name="consoles">Files that are there or will come.</param>
    /// <param name="time">The clock.</param>
    internal WorkWatch(IEnumerable<string> consoles, TimeProvider time)
    {
        _time = time;
        _origin = time.GetTimestamp();
        _consoles = [.. consoles.Select(static file => new Follower(file))];
        _watching = WatchAsync();
    }

    /// <summary>Since this watch began.</summary>
    internal TimeSpan Now => _time.GetElapsedTime(_origin);

    /// <summary>Returns when the workload has gone on for so long that its rate is known.</summary>
    /// <exception cref="FabricException">deadline-exceeded.</exception>
    internal async Task SettledAsync(CancellationToken cancellation)
    {
        for (var begun = Now; Samples().Count(static s => s.Operations > 0) < GuestWork.PaceBeats; await Task.Delay(Between, _time, cancellation))
        {
            if (Now - begun > BeatWithin)
                throw new FabricException(ErrorCodes.DeadlineExceeded, $"The guest did not beat {GuestWork.PaceBeats} times at work within {BeatWithin.TotalSeconds:0} s.");
        }
    }

    /// <summary>For a move that is over: waits until the window is over too, and until the guest's pace after it is known. A move that took longer than the window is looked at to its end. Null where it cannot be said.</summary>
    internal async Task<WorkLost?> LostAsync(TimeSpan start, TimeSpan window, CancellationToken cancellation)
    {
        var ended = Now;
        var whole = ended - start > window ? ended - start : window;
        var known = ended + GuestWork.Settling + PaceWithin;
        var until = start + whole > known ? start + whole : known;
        if (until - Now is var left && left > TimeSpan.Zero)
            await Task.Delay(left, _time, cancellation);
        return GuestWork.Of(Samples(), start, ended, whole);
    }

    public async ValueTask DisposeAsync()
    {
        await _over.CancelAsync();
        await _watching.ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
        _over.Dispose();
    }

    private List<WorkSample> Samples()
    {
        lock (_gate)
            return [.. _samples];
    }

    private async Task WatchAsync()
    {
        while (true)
        {
            foreach (var console in _consoles)
            {
                var beats = console.NewBeats();
                var now = Now;
                lock (_gate)
                    _samples.AddRange(beats.Select(beat => new WorkSample(now, beat.Operations)));
            }

            await Task.Delay(Between, _time, _over.Token);
        }
    }

    /// <summary>One file. A beat that the move tore in two is in neither file whole, and is left out.</summary>
    private sealed class Follower(string file)
    {
        private readonly HeartbeatLog _log = new();
        private readonly byte[] _chunk = new byte[16 * 1024];
        private long _offset;

        internal IReadOnlyList<Heartbeat> NewBeats()
        {
            int known = _log.Beats.Count;
            try
            {
                using var stream = new FileStream(file, FileMode.Open, FileAccess.Read, FileShare.ReadWrite | FileShare.Delete);
                stream.Position = _offset;
                for (int read; (read = stream.Read(_chunk)) > 0; _offset += read)
                    _log.Append(Encoding.Latin1.GetString(_chunk, 0, read));
            }
            catch (IOException)
            {
                // Not there yet.
            }

            return [.. _log.Beats.Skip(known)];
        }
    }
}
