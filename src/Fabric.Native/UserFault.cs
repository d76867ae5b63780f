using System.Runtime.InteropServices;
using Fabric.Core;

namespace Fabric.Native;

/// <summary>What the kernel must be able to do with a userfaultfd; the bits of <c>UFFD_FEATURE_*</c>.</summary>
[Flags]
public enum UserFaultFeatures : long
{
    None = 0,

    /// <summary>Missing pages of shared memory files can be trapped.</summary>
    MissingSharedMemory = 1 << 5,

    /// <summary>Shared memory can be write-protected.</summary>
    WriteProtectSharedMemory = 1 << 12,

    /// <summary>Pages of shared memory files that exist can be put into the process's page table from outside.</summary>
    MinorSharedMemory = 1 << 10,

    /// <summary>Write protection also covers pages that do not exist yet.</summary>
    WriteProtectUnpopulated = 1 << 13,

    /// <summary>The kernel resolves write faults by itself and only remembers them (Linux 6.7).</summary>
    WriteProtectAsync = 1 << 15,

    /// <summary>All that Fabric needs.</summary>
    Required = MissingSharedMemory | MinorSharedMemory | WriteProtectSharedMemory | WriteProtectUnpopulated | WriteProtectAsync,
}

/// <summary>What a range is registered for; the bits of <c>UFFDIO_REGISTER_MODE_*</c>.</summary>
[Flags]
public enum UserFaultModes
{
    None = 0,
    Missing = 1,
    WriteProtect = 2,

    /// <summary>A touch of a page that exists, but not in the process's page table, waits.</summary>
    Minor = 4,
}

/// <summary>How far a copy came.</summary>
public enum UserFaultResult
{
    Done,

    /// <summary>Some page was present already and stayed as it was; all others were installed.</summary>
    SomePresent,

    /// <summary>The process whose memory it is has gone.</summary>
    ProcessGone,
}

/// <summary>
/// A userfaultfd of <em>another</em> process's address space, received by <see cref="DescriptorListener"/> or taken with
/// <see cref="ProcessHandle.DuplicateDescriptor"/>. Closing it here changes nothing for that process as long as it keeps a copy of its own:
/// faults then wait. Never use one on this process's own memory: a managed thread that waits in a page fault stops the garbage collector.
/// <para>Installs and wakes may run on many threads at once; reading belongs to one thread; registration to one thread at a time.</para>
/// </summary>
public sealed class UserFault : SafeHandle
{
    /// <summary>Messages taken by one read.</summary>
    public const int BatchSize = 64;

    // A copy that makes no progress because the process is changing its mappings is tried again this often, then reported.
    private const int StalledAttempts = 10_000;

    public UserFault(int descriptor)
        : base(-1, ownsHandle: true) => SetHandle(descriptor);

    public override bool IsInvalid => handle < 0;

    /// <summary>
    /// Registers a range. Modes replace the earlier ones of the range, except that asking for a subset of what is registered
    /// changes nothing (the kernel's rule): to drop a mode, <see cref="Unregister"/> first.
    /// </summary>
    public unsafe void Register(ulong start, ulong length, UserFaultModes modes)
    {
        var argument = new UserFaultLayout.Register { Range = { Start = start, Length = length }, Mode = (ulong)modes };

        // SAFETY: the kernel reads and writes only the structure on this stack, whose size is part of the request number.
        if (LinuxCalls.Ioctl(this, UserFaultLayout.RegisterRequest, &argument) != 0)
            throw NativeError.Last($"userfaultfd: registering {length} bytes for {modes}");
    }

    /// <summary>Ends all modes of the range and wakes whoever waits in it (a missing page then reads as zeros).</summary>
    public unsafe void Unregister(ulong start, ulong length)
    {
        var range = new UserFaultLayout.Range { Start = start, Length = length };

        // SAFETY: the kernel reads only the structure on this stack.
        if (LinuxCalls.Ioctl(this, UserFaultLayout.UnregisterRequest, &range) != 0)
            throw NativeError.Last($"userfaultfd: unregistering {length} bytes");
    }

    /// <summary>Lets waiters in the range try again.</summary>
    public unsafe void Wake(ulong start, ulong length)
    {
        var range = new UserFaultLayout.Range { Start = start, Length = length };

        // SAFETY: the kernel reads only the structure on this stack.
        if (LinuxCalls.Ioctl(this, UserFaultLayout.WakeRequest, &range) != 0)
            throw NativeError.Last($"userfaultfd: waking {length} bytes");
    }

    /// <summary>
    /// Copies <paramref name="length"/> bytes (whole pages) from this process's <paramref name="source"/> to <paramref name="start"/> of the other
    /// one, each page atomically, and wakes its waiters. Pages that are present are left alone and woken.
    /// </summary>
    /// <exception cref="FabricException">exhausted: no memory left for the page; native: anything else.</exception>
    public unsafe UserFaultResult Copy(ulong start, nint source, ulong length)
    {
        ulong done = 0;
        bool present = false;
        int stalled = 0;
        while (done < length)
        {
            var argument = new UserFaultLayout.Copy { Destination = start + done, Source = (ulong)source + done, Length = length - done };

            // SAFETY: the structure is on this stack. The kernel reads `length` bytes at `source` with its own fault handling: the caller
            // owns that memory for the duration of the call, and a bad address is an error value (EFAULT), not a crash.
            int error = LinuxCalls.Ioctl(this, UserFaultLayout.CopyRequest, &argument) == 0 ? 0 : Marshal.GetLastPInvokeError();
            if (error == 0)
                break;
            var verdict = Judge(error, argument.Copied, "copying pages", ref done, ref present, ref stalled);
            if (verdict == UserFaultResult.ProcessGone)
                return verdict;
        }

        return Finish(start, length, present);
    }

    /// <summary>As <see cref="Copy"/>, with zeros.</summary>
    public unsafe UserFaultResult Zero(ulong start, ulong length)
    {
        ulong done = 0;
        bool present = false;
        int stalled = 0;
        while (done < length)
        {
            var argument = new UserFaultLayout.ZeroPage { Range = { Start = start + done, Length = length - done } };

            // SAFETY: the kernel reads and writes only the structure on this stack.
            int error = LinuxCalls.Ioctl(this, UserFaultLayout.ZeroPageRequest, &argument) == 0 ? 0 : Marshal.GetLastPInvokeError();
            if (error == 0)
                break;
            var verdict = Judge(error, argument.Zeroed, "installing zero pages", ref done, ref present, ref stalled);
            if (verdict == UserFaultResult.ProcessGone)
                return verdict;
        }

        return Finish(start, length, present);
    }

    /// <summary>
    /// Puts pages that exist in the memory file into the process's page table, so that its first touch of them does not fault. The range must be registered with
    /// <see cref="UserFaultModes.Minor"/>; nobody is woken. Pages that are there already, and holes, are passed over.
    /// </summary>
    /// <exception cref="FabricException">native: the range is not registered, or the kernel refuses.</exception>
    public unsafe UserFaultResult Continue(ulong start, ulong length)
    {
        ulong done = 0;
        bool present = false;
        int stalled = 0;
        while (done < length)
        {
            var argument = new UserFaultLayout.Continue { Range = { Start = start + done, Length = length - done }, Mode = UserFaultLayout.ContinueWithoutWaking };

            // SAFETY: the kernel reads and writes only the structure on this stack.
            int error = LinuxCalls.Ioctl(this, UserFaultLayout.ContinueRequest, &argument) == 0 ? 0 : Marshal.GetLastPInvokeError();
            if (error == 0)
                break;
            // A hole: nothing to map.
            error = error == Errno.BadAddress ? Errno.Exists : error;
            var verdict = Judge(error, argument.Mapped, "mapping pages", ref done, ref present, ref stalled);
            if (verdict == UserFaultResult.ProcessGone)
                return verdict;
        }

        return present ? UserFaultResult.SomePresent : UserFaultResult.Done;
    }

    /// <summary>
    /// Takes at most <see cref="BatchSize"/> waiting page faults without blocking and writes their addresses. Returns how many there were.
    /// </summary>
    public unsafe int ReadFaults(Span<ulong> addresses)
    {
        var messages = stackalloc UserFaultLayout.Message[BatchSize];
        int most = Math.Min(BatchSize, addresses.Length);
        if (most == 0)
            return 0;

        // SAFETY: the buffer holds BatchSize messages and at most that many are asked for; the kernel writes whole messages.
        nint bytes = LinuxCalls.Read(this, messages, (nuint)(most * sizeof(UserFaultLayout.Message)));
        if (bytes < 0)
        {
            return Marshal.GetLastPInvokeError() is Errno.TryAgain or Errno.Interrupted
                ? 0
                : throw NativeError.Last("userfaultfd: reading faults");
        }

        int found = 0;
        for (int i = 0; i < bytes / sizeof(UserFaultLayout.Message); i++)
        {
            if (messages[i].Event == UserFaultLayout.EventPageFault)
                addresses[found++] = messages[i].Address;
        }

        return found;
    }

    /// <summary>Waits until a fault is readable, <paramref name="interrupt"/> is set, the process ends or the time is over.</summary>
    /// <param name="deadlineMilliseconds">0 looks once; it is never infinite.</param>
    public UserFaultWait Wait(EventSignal interrupt, ProcessHandle process, int deadlineMilliseconds)
    {
        ArgumentNullException.ThrowIfNull(interrupt);
        ArgumentNullException.ThrowIfNull(process);
        ArgumentOutOfRangeException.ThrowIfNegative(deadlineMilliseconds);
        Span<bool> ready = stackalloc bool[3];
        Descriptors.Poll(ready, deadlineMilliseconds, this, interrupt, process.Descriptor);
        if (ready[2])
            return UserFaultWait.ProcessGone;
        if (ready[1])
            return UserFaultWait.Interrupted;
        return ready[0] ? UserFaultWait.Faults : UserFaultWait.Nothing;
    }

    protected override bool ReleaseHandle() => LinuxCalls.Close((int)handle) == 0;

    private static UserFaultResult Judge(int error, long progress, string what, ref ulong done, ref bool present, ref int stalled)
    {
        switch (error)
        {
            case Errno.TryAgain when progress > 0:
                // The kernel stopped part way (the next page is present, or it was interrupted); go on behind what it did.
                done += (ulong)progress;
                stalled = 0;
                return UserFaultResult.Done;
            case Errno.TryAgain when stalled++ < StalledAttempts:
                Thread.Yield();
                return UserFaultResult.Done;
            case Errno.Interrupted when stalled++ < StalledAttempts:
                return UserFaultResult.Done;
            case Errno.Exists:
                done += VmSpec.PageSize;
                present = true;
                return UserFaultResult.Done;
            case Errno.NoSuchProcess:
                return UserFaultResult.ProcessGone;
            case Errno.NoSpace or Errno.OutOfMemory:
                throw new FabricException(
                    ErrorCodes.Exhausted, $"userfaultfd: {what}: the host has no memory left for a guest page (errno {error}).", "Free memory, or enlarge the memory directory's tmpfs.");
            default:
                throw new FabricException(ErrorCodes.Native, $"userfaultfd: {what}: {Marshal.GetPInvokeErrorMessage(error)} (errno {error})");
        }
    }

    private UserFaultResult Finish(ulong start, ulong length, bool present)
    {
        if (!present)
            return UserFaultResult.Done;
        Wake(start, length);
        return UserFaultResult.SomePresent;
    }
}

/// <summary>Why <see cref="UserFault.Wait"/> returned.</summary>
public enum UserFaultWait
{
    Nothing,
    Faults,
    Interrupted,
    ProcessGone,
}
