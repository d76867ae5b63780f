using Fabric.Machines.Guests;

namespace Fabric.Benchmarks.Qemu;

/// <summary>Reads the serial logs of a guest, the source's first; a line torn by the move becomes whole again.</summary>
internal static class GuestConsole
{
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
