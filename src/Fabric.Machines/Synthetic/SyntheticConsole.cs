using System.Globalization;
using System.Text;

namespace Fabric.Machines.Synthetic;

/// <summary>The guest's serial line: a file with one line per tick, begun again when it has grown to 8 MiB. Used by whoever runs the guest.</summary>
internal sealed class SyntheticConsole : IDisposable
{
    private const long MaxBytes = 8 * 1024 * 1024;

    private readonly FileStream _file;

    internal SyntheticConsole(string path)
    {
        Path = path;
        _file = new FileStream(path, FileMode.Create, FileAccess.Write, FileShare.ReadWrite | FileShare.Delete, bufferSize: 0);
    }

    internal string Path { get; }

    /// <summary><c>tick 12 time 1767225600.123456 errors 0 ops 4800</c>; the time is the guest's clock, in seconds since 1970.</summary>
    internal void Heartbeat(Registers registers, DateTimeOffset now)
    {
        long microseconds = (now - DateTimeOffset.UnixEpoch).Ticks / TimeSpan.TicksPerMicrosecond;
        string line = string.Create(
            CultureInfo.InvariantCulture,
            $"tick {registers.Tick} time {microseconds / 1_000_000}.{microseconds % 1_000_000:000000} errors {registers.Errors} ops {registers.Operations}\n");
        if (_file.Length > MaxBytes)
            _file.SetLength(0);
        _file.Seek(0, SeekOrigin.End);
        _file.Write(Encoding.ASCII.GetBytes(line));
    }

    public void Dispose() => _file.Dispose();
}
