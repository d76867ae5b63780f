using System.Runtime.InteropServices;

namespace Fabric.Native;

/// <summary>Waiting for several descriptors at once.</summary>
internal static class Descriptors
{
    /// <summary>
    /// Waits until one of the three is readable (or broken), at most <paramref name="milliseconds"/>; an interrupted wait counts as nothing ready.
    /// Fixed to three so that nothing is allocated.
    /// </summary>
    internal static unsafe void Poll(Span<bool> ready, int milliseconds, SafeHandle first, SafeHandle second, SafeHandle third)
    {
        bool heldFirst = false, heldSecond = false, heldThird = false;
        try
        {
            first.DangerousAddRef(ref heldFirst);
            second.DangerousAddRef(ref heldSecond);
            third.DangerousAddRef(ref heldThird);
            var set = stackalloc LinuxCalls.PollDescriptor[3];
            set[0] = new LinuxCalls.PollDescriptor { Descriptor = (int)first.DangerousGetHandle(), Events = LinuxCalls.PollIn };
            set[1] = new LinuxCalls.PollDescriptor { Descriptor = (int)second.DangerousGetHandle(), Events = LinuxCalls.PollIn };
            set[2] = new LinuxCalls.PollDescriptor { Descriptor = (int)third.DangerousGetHandle(), Events = LinuxCalls.PollIn };

            // SAFETY: three entries on this stack; the descriptors stay open through the references taken above.
            int count = LinuxCalls.Poll(set, 3, milliseconds);
            if (count < 0 && Marshal.GetLastPInvokeError() != Errno.Interrupted)
                throw NativeError.Last("poll");
            for (int i = 0; i < 3; i++)
                ready[i] = count > 0 && set[i].Returned != 0;
        }
        finally
        {
            if (heldFirst)
                first.DangerousRelease();
            if (heldSecond)
                second.DangerousRelease();
            if (heldThird)
                third.DangerousRelease();
        }
    }

    /// <summary>True when <paramref name="handle"/> is readable within the time.</summary>
    internal static unsafe bool Readable(SafeHandle handle, int milliseconds)
    {
        bool held = false;
        try
        {
            handle.DangerousAddRef(ref held);
            var entry = new LinuxCalls.PollDescriptor { Descriptor = (int)handle.DangerousGetHandle(), Events = LinuxCalls.PollIn };

            // SAFETY: one entry on this stack; the reference keeps the descriptor open.
            int count = LinuxCalls.Poll(&entry, 1, milliseconds);
            if (count < 0 && Marshal.GetLastPInvokeError() != Errno.Interrupted)
                throw NativeError.Last("poll");
            return count > 0;
        }
        finally
        {
            if (held)
                handle.DangerousRelease();
        }
    }
}
