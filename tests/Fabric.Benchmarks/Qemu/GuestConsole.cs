using Fabric.Machines.Guests;

namespace Fabric.Benchmarks.Qemu;

/// <summary>Reads the serial logs of a guest, the source's first; a line torn by the move becomes whole again.</summary>
internal static class GuestConsole
{
    private const int BeatsAfter = 4;

    private static readonly TimeSpan Between = TimeSpan.FromMilliseconds(100);

    public static HeartbeatLog Read(IEnumerable<string> files)
    {
        var log = new HeartbeatLog();
        foreach (string file in files.Where(File.Exists))
        {
            using var reader = new StreamReader(new FileStream(file, FileMode.Open, FileAccess.Read, FileShare.ReadWrite));
            log.Append(reader.ReadToEnd());
        }

        return log;
    }

    /// <summary>
    /// The last beat once two samples of the host's clock have settled (the first ones after boot are coarse), so that a stop from here on can be
    /// measured; null before.
    /// </summary>
    public static long? SettledBeat(HeartbeatLog log)
    {
        long sample = log.Beats.Count == 0 ? 0 : log.Beats[^1].GuestMs - 1500;
        return log.IsReady && log.DowntimeBetween(sample, sample) is not null ? log.Beats[^1].GuestMs : null;
    }

    /// <summary>
    /// How the guest saw a move that is over: the first log is the source's. Seen is null when it does not say in time. Sound: it has found no error, and goes on beating; a guest that says nothing any
    /// more has lost its memory too.
    /// </summary>
    public static async Task<(GuestDowntime? Seen, bool Sound)> ViewAsync(IReadOnlyList<string> files, long lastBeat, TimeSpan deadline, TimeProvider time, CancellationToken cancellation)
    {
        int beatsBefore = Read(files.Take(1)).Beats.Count;
        bool sound = false;
        var seen = await WaitAsync<GuestDowntime>(
            files,
            log =>
            {
                sound = log.IsClean && log.Beats.Count >= beatsBefore + BeatsAfter;
                return log.Beats.Count > beatsBefore ? log.DowntimeBetween(lastBeat, log.Beats[beatsBefore].GuestMs) : null;
            },
            deadline,
            time,
            cancellation);
        return (seen, sound);
    }

    /// <summary>Reads again and again until the answer is there; null when the deadline passes first.</summary>
    public static async Task<T?> WaitAsync<T>(IReadOnlyList<string> files, Func<HeartbeatLog, T?> answer, TimeSpan deadline, TimeProvider time, CancellationToken cancellation)
        where T : class
    {
        for (long begun = time.GetTimestamp(); time.GetElapsedTime(begun) < deadline;)
        {
            if (answer(Read(files)) is { } found)
                return found;
            await Task.Delay(Between, time, cancellation);
        }

        return null;
    }

    /// <inheritdoc cref="WaitAsync{T}(IReadOnlyList{string}, Func{HeartbeatLog, T}, TimeSpan, TimeProvider, CancellationToken)"/>
    public static async Task<long?> WaitAsync(IReadOnlyList<string> files, Func<HeartbeatLog, long?> answer, TimeSpan deadline, TimeProvider time, CancellationToken cancellation)
    {
        object? found = await WaitAsync<object>(files, log => answer(log), deadline, time, cancellation);
        return (long?)found;
    }
}
