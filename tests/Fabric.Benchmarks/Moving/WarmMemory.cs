using System.Runtime.InteropServices;

namespace Fabric.Benchmarks.Moving;

/// <summary>
/// Memory that was touched a moment ago, for the destination of a move. A machine that is itself a guest gives what it does not use back to its own host, and gets it again page by page:
/// 16 µs each at the first touch where that was measured, ten times the move's own cost. Who moves first after a pause would pay it for the others. So this much is touched and held while
/// the source boots, and given back right before the move, whoever makes it: what the destination then takes is what has just become free.
/// </summary>
public sealed class WarmMemory : IDisposable
{
    private nint _held;

    /// <summary>Touches so many bytes, a byte in each page; may take seconds for a GiB.</summary>
    public WarmMemory(long bytes)
    {
        _held = Marshal.AllocHGlobal(checked((nint)bytes));
        for (long at = 0; at < bytes; at += Environment.SystemPageSize)
            Marshal.WriteByte(_held + (nint)at, 1);
    }

    public void Dispose()
    {
        Marshal.FreeHGlobal(_held);
        _held = 0;
    }
}
