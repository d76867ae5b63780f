using System.Runtime.InteropServices;

namespace Fabric.Native;

/// <summary>An eventfd: a flag that a thread in <c>poll</c> can be woken by. Any thread may set it; the waiter clears it.</summary>
public sealed partial class EventSignal : SafeHandle
{
    private const int CloseOnExec = 0x80000;
    private const int NonBlocking = 0x800;

    public EventSignal()
        : base(-1, ownsHandle: true)
    {
        int descriptor = Create(0, CloseOnExec | NonBlocking);
        if (descriptor < 0)
            throw NativeError.Last("eventfd");
        SetHandle(descriptor);
    }

    public override bool IsInvalid => handle < 0;

    public unsafe void Set()
    {
        ulong one = 1;

        // SAFETY: eight bytes of this stack are read. EAGAIN means that the counter is full: the flag is set already.
        if (LinuxCalls.Write(this, &one, sizeof(ulong)) < 0 && Marshal.GetLastPInvokeError() != Errno.TryAgain)
            throw NativeError.Last("eventfd: write");
    }

    /// <summary>True when the flag was set.</summary>
    public unsafe bool Clear()
    {
        ulong count = 0;

        // SAFETY: eight bytes of this stack are written.
        return LinuxCalls.Read(this, &count, sizeof(ulong)) == sizeof(ulong);
    }

    protected override bool ReleaseHandle() => LinuxCalls.Close((int)handle) == 0;

    [LibraryImport("libc", EntryPoint = "eventfd", SetLastError = true)]
    private static partial int Create(uint initial, int flags);
}
