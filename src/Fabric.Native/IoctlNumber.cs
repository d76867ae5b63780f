using System.Runtime.CompilerServices;

namespace Fabric.Native;

/// <summary>
/// ioctl request numbers by the kernel's formula (asm-generic/ioctl.h): direction in bits 30–31, size of the argument in
/// bits 16–29, type in bits 8–15, number in bits 0–7. Unit tests compare the results with the literal values.
/// </summary>
internal static class IoctlNumber
{
    private const uint DirectionWrite = 1;
    private const uint DirectionRead = 2;

    internal static uint None(byte type, byte number) => (uint)(type << 8 | number);

    internal static uint Read<T>(byte type, byte number)
        where T : unmanaged => Compose<T>(DirectionRead, type, number);

    internal static uint ReadWrite<T>(byte type, byte number)
        where T : unmanaged => Compose<T>(DirectionRead | DirectionWrite, type, number);

    private static uint Compose<T>(uint direction, byte type, byte number)
        where T : unmanaged => direction << 30 | (uint)Unsafe.SizeOf<T>() << 16 | (uint)type << 8 | number;
}
