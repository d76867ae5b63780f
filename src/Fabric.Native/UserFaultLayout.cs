using System.Runtime.InteropServices;

namespace Fabric.Native;

/// <summary>Structures and request numbers of linux/userfaultfd.h. Sizes and numbers are checked by unit tests.</summary>
internal static class UserFaultLayout
{
    private const byte Type = 0xAA;

    internal const ulong ApiVersion = 0xAA;
    internal const byte EventPageFault = 0x12;

    internal static readonly uint ApiRequest = IoctlNumber.ReadWrite<Api>(Type, 0x3F);
    internal static readonly uint RegisterRequest = IoctlNumber.ReadWrite<Register>(Type, 0x00);

    // The kernel's header declares these two as "read" by mistake and keeps them so for ever.
    internal static readonly uint UnregisterRequest = IoctlNumber.Read<Range>(Type, 0x01);
    internal static readonly uint WakeRequest = IoctlNumber.Read<Range>(Type, 0x02);

    internal static readonly uint CopyRequest = IoctlNumber.ReadWrite<Copy>(Type, 0x03);
    internal static readonly uint ZeroPageRequest = IoctlNumber.ReadWrite<ZeroPage>(Type, 0x04);
    internal static readonly uint ContinueRequest = IoctlNumber.ReadWrite<Continue>(Type, 0x07);

    /// <summary><c>UFFDIO_CONTINUE_MODE_DONTWAKE</c>.</summary>
    internal const ulong ContinueWithoutWaking = 1;

    /// <summary><c>USERFAULTFD_IOC_NEW</c> of <c>/dev/userfaultfd</c>; its argument is the flags, not a pointer.</summary>
    internal static readonly uint DeviceNewRequest = IoctlNumber.None(Type, 0x00);

    [StructLayout(LayoutKind.Sequential)]
    internal struct Api
    {
        internal ulong Version;
        internal ulong Features;
        internal ulong Ioctls;
    }

    [StructLayout(LayoutKind.Sequential)]
    internal struct Range
    {
        internal ulong Start;
        internal ulong Length;
    }

    [StructLayout(LayoutKind.Sequential)]
    internal struct Register
    {
        internal Range Range;
        internal ulong Mode;
        internal ulong Ioctls;
    }

    [StructLayout(LayoutKind.Sequential)]
    internal struct Copy
    {
        internal ulong Destination;
        internal ulong Source;
        internal ulong Length;
        internal ulong Mode;

        /// <summary>Out: bytes copied, or a negative errno.</summary>
        internal long Copied;
    }

    [StructLayout(LayoutKind.Sequential)]
    internal struct ZeroPage
    {
        internal Range Range;
        internal ulong Mode;

        /// <summary>Out: bytes made zero, or a negative errno.</summary>
        internal long Zeroed;
    }

    [StructLayout(LayoutKind.Sequential)]
    internal struct Continue
    {
        internal Range Range;
        internal ulong Mode;

        /// <summary>Out: bytes mapped, or a negative errno.</summary>
        internal long Mapped;
    }

    /// <summary><c>struct uffd_msg</c>, as far as a page fault fills it.</summary>
    [StructLayout(LayoutKind.Explicit, Size = 32)]
    internal struct Message
    {
        [FieldOffset(0)] internal byte Event;
        [FieldOffset(8)] internal ulong Flags;
        [FieldOffset(16)] internal ulong Address;
    }
}
