using System.Runtime.InteropServices;
using Microsoft.Win32.SafeHandles;

namespace Fabric.Native;

/// <summary>
/// The C library's calls that more than one file here needs. All are blittable; none suppresses the GC transition, because
/// each of them may block or touch guest memory.
/// </summary>
internal static partial class LinuxCalls
{
    internal const short PollIn = 1;

    internal const int OpenReadOnly = 0;
    internal const int OpenWriteOnly = 1;
    internal const int OpenReadWrite = 2;
    internal const int OpenCreate = 0x40;
    internal const int OpenExclusive = 0x80;
    internal const int OpenAppend = 0x400;
    internal const int OpenNonBlocking = 0x800;
    internal const int OpenCloseOnExec = 0x80000;

    // System calls from 424 on have one number on every architecture; older ones differ.
    internal const long PidfdSendSignalNumber = 424;
    internal const long PidfdOpenNumber = 434;
    internal const long PidfdGetfdNumber = 438;

    [StructLayout(LayoutKind.Sequential)]
    internal struct PollDescriptor
    {
        internal int Descriptor;
        internal short Events;
        internal short Returned;
    }

    [LibraryImport("libc", EntryPoint = "open", SetLastError = true, StringMarshalling = StringMarshalling.Utf8)]
    internal static partial int Open(string path, int flags, uint mode);

    [LibraryImport("libc", EntryPoint = "close", SetLastError = true)]
    internal static partial int Close(int descriptor);

    [LibraryImport("libc", EntryPoint = "read", SetLastError = true)]
    internal static unsafe partial nint Read(SafeHandle descriptor, void* buffer, nuint count);

    [LibraryImport("libc", EntryPoint = "write", SetLastError = true)]
    internal static unsafe partial nint Write(SafeHandle descriptor, void* buffer, nuint count);

    [LibraryImport("libc", EntryPoint = "poll", SetLastError = true)]
    internal static unsafe partial int Poll(PollDescriptor* descriptors, nuint count, int timeoutMilliseconds);

    [LibraryImport("libc", EntryPoint = "ioctl", SetLastError = true)]
    internal static unsafe partial int Ioctl(SafeHandle descriptor, nuint request, void* argument);

    [LibraryImport("libc", EntryPoint = "syscall", SetLastError = true)]
    internal static partial nint SystemCall(long number, nint first, nint second, nint third, nint fourth);

    [LibraryImport("libc", EntryPoint = "chmod", SetLastError = true, StringMarshalling = StringMarshalling.Utf8)]
    private static partial int ChangeMode(string path, uint mode);

    /// <summary>Only the owner may read and write the file, or connect to the socket.</summary>
    internal static void MakeOwnerOnly(string path)
    {
        if (ChangeMode(path, 0x180 /* 0600 */) != 0)
            throw NativeError.Last($"chmod {path}");
    }

    /// <summary>Opens a path that .NET's own file API refuses or would lock (<c>/proc</c>, devices).</summary>
    internal static SafeFileHandle OpenFile(string path, int flags, uint mode = 0)
    {
        while (true)
        {
            int descriptor = Open(path, flags | OpenCloseOnExec, mode);
            if (descriptor >= 0)
                return new SafeFileHandle(descriptor, ownsHandle: true);
            if (Marshal.GetLastPInvokeError() != Errno.Interrupted)
                throw NativeError.Last($"open {path}");
        }
    }
}
