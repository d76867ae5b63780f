using System.Globalization;
using System.Runtime.InteropServices;
using Fabric.Core;

namespace Fabric.Native;

/// <summary>
/// A hard limit on the CPU time of single threads of another process, kept by the kernel: <c>SCHED_DEADLINE</c> with so much runtime in each period. A thread that
/// has used its runtime stands until the next period. The limit outlives whoever set it. Any thread.
/// </summary>
public static partial class CpuLimit
{
    /// <summary>Short, since a thread that stands may hold a lock that others wait for: the vCPU threads of QEMU share one with its main loop.</summary>
    private const ulong PeriodNanoseconds = 10_000_000;

    private const uint PolicyOther = 0;
    private const uint PolicyDeadline = 6;

    /// <summary>Threads that the limited one makes are ordinary ones; without this it could make none.</summary>
    private const ulong ResetOnFork = 1;

    private static bool IsArm => RuntimeInformation.ProcessArchitecture == Architecture.Arm64;

    private static long SetAttributes => IsArm ? 274 : 314;

    private static long GetAttributes => IsArm ? 275 : 315;

    /// <summary>Leaves the thread at most so many per cent, 1 to 99, of one CPU.</summary>
    /// <exception cref="FabricException">unsupported: not permitted, or the limits of all threads would be more than this host has; machine-failed: there is no such thread.</exception>
    public static unsafe void Set(int threadId, int percent)
    {
        ArgumentOutOfRangeException.ThrowIfLessThan(percent, 1);
        ArgumentOutOfRangeException.ThrowIfGreaterThan(percent, 99);
        var wanted = new Layout.Attributes
        {
            Size = (uint)sizeof(Layout.Attributes),
            Policy = PolicyDeadline,
            Flags = ResetOnFork,
            Runtime = PeriodNanoseconds / 100 * (ulong)percent,
            Deadline = PeriodNanoseconds,
            Period = PeriodNanoseconds,
        };
        if (TrySet(threadId, &wanted))
            return;
        var error = NativeError.Last($"sched_setattr of thread {threadId} to {percent} %").Error;
        throw Marshal.GetLastPInvokeError() == Errno.NoSuchProcess
            ? new FabricException(ErrorCodes.MachineFailed, error.Message)
            : new FabricException(ErrorCodes.Unsupported, error.Message, "Needs CAP_SYS_NICE, threads that may run on all CPUs, and free real-time bandwidth.");
    }

    /// <summary>Lifts the limits of all threads of a process; their niceness is what it was. Threads and processes that are gone are passed over.</summary>
    public static unsafe void LiftAll(int processId)
    {
        string tasks = string.Create(CultureInfo.InvariantCulture, $"/proc/{processId}/task");
        if (!Directory.Exists(tasks))
            return;
        try
        {
            foreach (string task in Directory.EnumerateDirectories(tasks))
            {
                int thread = int.Parse(Path.GetFileName(task), NumberStyles.None, CultureInfo.InvariantCulture);
                Layout.Attributes now;

                // SAFETY: the kernel writes at most the given size into the structure on this stack.
                bool limited = LinuxCalls.SystemCall(GetAttributes, thread, (nint)(&now), sizeof(Layout.Attributes), 0) == 0 && now.Policy == PolicyDeadline;
                if (!limited)
                    continue;
                var ordinary = new Layout.Attributes { Size = (uint)sizeof(Layout.Attributes), Policy = PolicyOther, Nice = Niceness(0, thread) };
                if (!TrySet(thread, &ordinary) && Marshal.GetLastPInvokeError() != Errno.NoSuchProcess)
                    throw NativeError.Last($"sched_setattr of thread {thread} to its ordinary policy");
            }
        }
        catch (DirectoryNotFoundException)
        {
            // It ended while its threads were listed.
        }
    }

    // SAFETY: the kernel reads the structure, which lives until the call returns, and keeps no address.
    private static unsafe bool TrySet(int threadId, Layout.Attributes* wanted) => LinuxCalls.SystemCall(SetAttributes, threadId, (nint)wanted, 0, 0) == 0;

    /// <summary>A limited thread keeps the niceness that it had. -1 is a value and an error; a thread that is gone is found out by who uses it.</summary>
    [LibraryImport("libc", EntryPoint = "getpriority")]
    private static partial int Niceness(int which, int threadId);

    /// <summary>Structures as in the kernel's headers (<c>uapi/linux/sched/types.h</c>).</summary>
    internal static class Layout
    {
        /// <summary><c>struct sched_attr</c>, first version.</summary>
        [StructLayout(LayoutKind.Sequential)]
        internal struct Attributes
        {
            internal uint Size;
            internal uint Policy;
            internal ulong Flags;
            internal int Nice;
            internal uint Priority;
            internal ulong Runtime;
            internal ulong Deadline;
            internal ulong Period;
        }
    }
}
