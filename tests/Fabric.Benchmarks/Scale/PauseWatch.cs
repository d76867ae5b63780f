namespace Fabric.Benchmarks.Scale;

/// <summary>The collector's longest pause, looked for often enough that few collections are missed.</summary>
internal sealed class PauseWatch : IDisposable
{
    private readonly ITimer _timer;
    private double _longest;

    internal PauseWatch(TimeProvider time)
    {
        long earlier = GC.GetGCMemoryInfo(GCKind.Any).Index;
        _timer = time.CreateTimer(
            _ =>
            {
                foreach (var kind in (ReadOnlySpan<GCKind>)[GCKind.Ephemeral, GCKind.FullBlocking, GCKind.Background])
                {
                    var last = GC.GetGCMemoryInfo(kind);
                    if (last.Index <= earlier)
                        continue;
                    foreach (var pause in last.PauseDurations)
                        _longest = Math.Max(_longest, pause.TotalMilliseconds);
                }
            },
            null, TimeSpan.FromMilliseconds(20), TimeSpan.FromMilliseconds(20));
    }

    internal double LongestMs => Volatile.Read(ref _longest);

    public void Dispose() => _timer.Dispose();
}
