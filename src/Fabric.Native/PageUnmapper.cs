using System.Runtime.InteropServices;
using Fabric.Core;
using Microsoft.Win32.SafeHandles;

namespace Fabric.Native;

/// <summary>
/// Asks the shim's thread in another process to take pages of a shared file out of that process's page table: their bytes stay, and the next touch maps them again. No system call does this from
/// outside. One caller at a time.
/// </summary>
public sealed partial class PageUnmapper : IDisposable
{
    private const int DoNotWait = 0x40;
    private const int NoSignal = 0x4000;

    /// <summary>How often an answer to somebody else's question is read over before the process is given up.</summary>
    private const int StrangersMost = 64;

    private readonly SafeFileHandle _socket;
    private ulong _tag;

    /// <param name="descriptor">The agent's end of the shim's socket pair (<see cref="ProcessHandle.DuplicateDescriptor"/>); owned from here on.</param>
    /// <param name="firstTag">Any number: an agent before this one may have left answers, which must not carry the same.</param>
    public PageUnmapper(int descriptor, ulong firstTag) => (_socket, _tag) = (new SafeFileHandle(descriptor, ownsHandle: true), firstTag);

    /// <summary>Returns when it is done. Where that takes longer than the deadline it may still happen.</summary>
    /// <exception cref="FabricException">deadline-exceeded: no answer; native: the kernel, there or here, refused.</exception>
    public unsafe void Unmap(ulong start, ulong length, int deadlineMilliseconds)
    {
        var range = new Layout.Range { Tag = ++_tag, Start = start, Length = length };

        // SAFETY: the kernel reads the structure on this stack.
        if (Send(_socket, &range, (nuint)sizeof(Layout.Range), DoNotWait | NoSignal) != sizeof(Layout.Range))
            throw NativeError.Last("asking QEMU to unmap pages");
        for (int i = 0; i < StrangersMost && Descriptors.Readable(_socket, deadlineMilliseconds); i++)
        {
            var outcome = default(Layout.Outcome);

            // SAFETY: the kernel writes at most the structure's size onto this stack.
            if (Receive(_socket, &outcome, (nuint)sizeof(Layout.Outcome), DoNotWait) != sizeof(Layout.Outcome))
                throw NativeError.Last("hearing whether QEMU has unmapped pages");
            if (outcome.Tag != range.Tag)
                continue;
            if (outcome.Error == 0)
                return;
            throw new FabricException(ErrorCodes.Native, $"QEMU could not unmap {length} bytes: {Marshal.GetPInvokeErrorMessage((int)-outcome.Error)} (errno {-outcome.Error})");
        }

        throw new FabricException(ErrorCodes.DeadlineExceeded, $"QEMU did not say within {deadlineMilliseconds} ms that it has unmapped {length} bytes.");
    }

    public void Dispose() => _socket.Dispose();

    [LibraryImport("libc", EntryPoint = "send", SetLastError = true)]
    private static unsafe partial nint Send(SafeHandle socket, void* buffer, nuint length, int flags);

    [LibraryImport("libc", EntryPoint = "recv", SetLastError = true)]
    private static unsafe partial nint Receive(SafeHandle socket, void* buffer, nuint length, int flags);

    /// <summary>Structures of fabric-shim.c; sizes are checked by unit tests.</summary>
    internal static class Layout
    {
        [StructLayout(LayoutKind.Sequential)]
        internal struct Range
        {
            internal ulong Tag;
            internal ulong Start;
            internal ulong Length;
        }

        [StructLayout(LayoutKind.Sequential)]
        internal struct Outcome
        {
            internal ulong Tag;
            internal long Error;
        }
    }
}
