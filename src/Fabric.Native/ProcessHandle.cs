using System.Runtime.InteropServices;
using Microsoft.Win32.SafeHandles;

namespace Fabric.Native;

/// <summary>
/// A process held by a pidfd: signals and questions reach this process or nobody, never another one that got its number. Any thread.
/// </summary>
public sealed class ProcessHandle : IDisposable
{
    private const int Interrupt = 2;
    private const int Quit = 3;
    private const int Kill = 9;
    private const int Terminate = 15;
    private const int Continue = 18;
    private const int Stop = 19;

    private ProcessHandle(ProcessIdentity identity, SafeFileHandle descriptor)
    {
        Identity = identity;
        Descriptor = descriptor;
    }

    public ProcessIdentity Identity { get; }

    /// <summary>The pidfd; readable once the process has ended.</summary>
    public SafeFileHandle Descriptor { get; }

    public bool HasExited => Descriptors.Readable(Descriptor, 0);

    /// <summary>Null when no such process lives.</summary>
    public static ProcessHandle? TryOpen(int processId)
    {
        nint descriptor = LinuxCalls.SystemCall(LinuxCalls.PidfdOpenNumber, processId, 0, 0, 0);
        if (descriptor < 0)
        {
            return Marshal.GetLastPInvokeError() == Errno.NoSuchProcess
                ? null
                : throw NativeError.Last($"pidfd_open of process {processId}");
        }

        // The identity is read after the pidfd is open, and the pidfd asked after that: if the process still lives then, the
        // number was not recycled in between.
        var handle = new SafeFileHandle(descriptor, ownsHandle: true);
        if (ProcessIdentity.Of(processId) is { } identity && !Descriptors.Readable(handle, 0))
            return new ProcessHandle(identity, handle);
        handle.Dispose();
        return null;
    }

    /// <summary>Null when exactly this process no longer lives.</summary>
    public static ProcessHandle? TryOpen(ProcessIdentity identity)
    {
        ArgumentNullException.ThrowIfNull(identity);
        var handle = TryOpen(identity.ProcessId);
        if (handle is null || handle.Identity == identity)
            return handle;
        handle.Dispose();
        return null;
    }

    /// <summary>SIGKILL. Harmless when it has ended.</summary>
    public void SendKill() => Send(Kill);

    /// <summary>SIGINT. Harmless when it has ended.</summary>
    public void SendInterrupt() => Send(Interrupt);

    /// <summary>SIGQUIT. Harmless when it has ended.</summary>
    public void SendQuit() => Send(Quit);

    /// <summary>SIGTERM. Harmless when it has ended.</summary>
    public void SendTerminate() => Send(Terminate);

    /// <summary>SIGSTOP: all threads stand from soon after this until <see cref="SendContinue"/>. Harmless when it has ended.</summary>
    public void SendStop() => Send(Stop);

    /// <summary>SIGCONT. Harmless when it does not stand or has ended.</summary>
    public void SendContinue() => Send(Continue);

    /// <summary>A copy of a descriptor of that process, valid here (<c>pidfd_getfd</c>). Needs the right to trace it.</summary>
    public int DuplicateDescriptor(int remote)
    {
        nint copy = WithDescriptor(fd => LinuxCalls.SystemCall(LinuxCalls.PidfdGetfdNumber, fd, remote, 0, 0));
        return copy >= 0
            ? (int)copy
            : throw NativeError.Last($"pidfd_getfd of descriptor {remote} of process {Identity.ProcessId}");
    }

    public void Dispose() => Descriptor.Dispose();

    private void Send(int signal)
    {
        nint result = WithDescriptor(fd => LinuxCalls.SystemCall(LinuxCalls.PidfdSendSignalNumber, fd, signal, 0, 0));
        if (result != 0 && Marshal.GetLastPInvokeError() != Errno.NoSuchProcess)
            throw NativeError.Last($"signal {signal} to process {Identity.ProcessId}");
    }

    private nint WithDescriptor(Func<nint, nint> call)
    {
        bool held = false;
        try
        {
            Descriptor.DangerousAddRef(ref held);
            return call(Descriptor.DangerousGetHandle());
        }
        finally
        {
            if (held)
                Descriptor.DangerousRelease();
        }
    }
}
