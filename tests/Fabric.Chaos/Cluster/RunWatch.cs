namespace Fabric.Chaos.Cluster;

/// <summary>
/// Looks all through a row whether the VM ever runs in two places. The proof: once the guest has been seen to write at the destination, a later
/// growth of its log at the source (or the other way round) means that it ran there after it already ran here.
/// </summary>
internal sealed class RunWatch : IAsyncDisposable
{
    private static readonly TimeSpan Interval = TimeSpan.FromMilliseconds(10);

    private readonly Func<string, long> _written;
    private readonly string[] _hosts;
    private readonly CancellationTokenSource _stop = new();
    private readonly Task _watching;
    private volatile string? _violation;

    internal RunWatch(Func<string, long> written, params string[] hosts)
    {
        (_written, _hosts) = (written, hosts);
        _watching = WatchAsync();
    }

    /// <summary>Null while nothing wrong was seen.</summary>
    internal string? Violation => _violation;

    public async ValueTask DisposeAsync()
    {
        await _stop.CancelAsync();
        await _watching.ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
        _stop.Dispose();
    }

    private async Task WatchAsync()
    {
        long[] last = [.. _hosts.Select(_written)];
        string? home = null;
        var left = new HashSet<string>(StringComparer.Ordinal);
        while (!_stop.IsCancellationRequested)
        {
            var grown = new List<string>();
            for (int i = 0; i < _hosts.Length; i++)
            {
                long now = _written(_hosts[i]);
                if (now > last[i])
                    grown.Add(_hosts[i]);
                last[i] = now;
            }

            foreach (string host in grown.Where(left.Contains))
                _violation ??= $"The guest wrote at {host} after it had run at {home}.";

            // Both within one look is a hand-over between two looks: the newcomer is at home from now on.
            foreach (string host in grown.Where(h => h != home && !left.Contains(h)))
            {
                if (home is not null)
                {
                    left.Add(home);
                    last[Array.IndexOf(_hosts, home)] = _written(home); // read after the newcomer wrote: what comes later came too late
                }

                home = host;
            }

            await Task.Delay(Interval, TimeProvider.System, _stop.Token);
        }
    }
}
