using System.Globalization;

namespace Fabric.Benchmarks.Scale;

/// <summary>The collector's pauses, looked for often enough that few collections are missed.</summary>
internal sealed class PauseWatch : IDisposable
{
    private static readonly GCKind[] Kinds = [GCKind.Ephemeral, GCKind.FullBlocking, GCKind.Background];

    private readonly Lock _gate = new();
    private readonly long[] _seen;
    private readonly SortedDictionary<string, (int Count, double Longest)> _pauses = new(StringComparer.Ordinal); // under the gate
    private readonly ITimer _timer;

    internal PauseWatch(TimeProvider time)
    {
        _seen = [.. Kinds.Select(static kind => GC.GetGCMemoryInfo(kind).Index)];
        _timer = time.CreateTimer(_ => Look(), null, TimeSpan.FromMilliseconds(5), TimeSpan.FromMilliseconds(5));
    }

    internal double LongestMs
    {
        get
        {
            lock (_gate)
                return _pauses.Count == 0 ? 0 : _pauses.Values.Max(static seen => seen.Longest);
        }
    }

    /// <summary>How many collections of each generation were seen, and the longest pause of each.</summary>
    internal string ByGeneration
    {
        get
        {
            lock (_gate)
                return string.Join(", ", _pauses.Select(static seen => string.Create(CultureInfo.InvariantCulture, $"{seen.Key} {seen.Value.Count}x ≤ {seen.Value.Longest:0} ms")));
        }
    }

    public void Dispose() => _timer.Dispose();

    private void Look()
    {
        lock (_gate)
        {
            for (int i = 0; i < Kinds.Length; i++)
            {
                var last = GC.GetGCMemoryInfo(Kinds[i]);
                if (last.Index <= _seen[i])
                    continue;
                _seen[i] = last.Index;
                string name = Kinds[i] == GCKind.Ephemeral ? string.Create(CultureInfo.InvariantCulture, $"generation {last.Generation}") : Kinds[i] == GCKind.Background ? "background" : "full";
                var known = _pauses.GetValueOrDefault(name);
                double longest = known.Longest;
                foreach (var pause in last.PauseDurations)
                    longest = Math.Max(longest, pause.TotalMilliseconds);
                _pauses[name] = (known.Count + 1, longest);
            }
        }
    }
}
