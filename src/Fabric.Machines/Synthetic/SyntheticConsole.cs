using System.Globalization;
using System.Text;

namespace Fabric.Machines.Synthetic;

/// <summary>
/// The guest's serial line: a file with one line per tick, begun again when it has grown to 8 MiB. Used by whoever runs the guest. It is there from the beginning, and
/// open from the first line on: of the many guests of one process those that say nothing hold no descriptor.
/// </summary>
internal sealed class SyntheticConsole : IDisposable
{
    private const long MaxBytes = 8 * 1024 * 1024;

    private FileStream? _file;

    internal SyntheticConsole(string path)
    {
        Path = path;
        Open(FileMode.Create).Dispose();
    }

    internal string Path { get; }

    /// <summary><c>tick 12 time 1767225600.123456 errors 0 ops 4800</c>; the time is the guest's clock, in seconds since 1970.</summary>
    internal void Heartbeat(Registers registers, DateTimeOffset now)
    {
        long microseconds = (now - DateTimeOffset.UnixEpoch).Ticks / TimeSpan.TicksPerMicrosecond;
        string line = string.Create(
            CultureInfo.InvariantCulture,
            $"tick {registers.Tick} time {microseconds / 1_000_000}.{microseconds % 1_000_000:000000} errors {registers.Errors} ops {registers.Operations}\n");
        var file = _file ??= Open(FileMode.OpenOrCreate);
        if (file.Length > MaxBytes)
            file.SetLength(0);
        file.Seek(0, SeekOrigin.End);
        file.Write(Encoding.ASCII.GetBytes(line));
    }

    public void Dispose() => _file?.Dispose();

    private FileStream Open(FileMode mode) => new(Path, mode, FileAccess.Write, FileShare.ReadWrite | FileShare.Delete, bufferSize: 0);
}
