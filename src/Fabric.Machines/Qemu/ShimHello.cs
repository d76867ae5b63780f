using System.Buffers.Binary;
using Fabric.Core;
using Fabric.Native;

namespace Fabric.Machines.Qemu;

/// <summary>What the shim says beside the descriptor it sends: <c>struct hello</c> of fabric-shim.c.</summary>
/// <param name="Unmap">Number, inside the QEMU process, of the agent's end of the socket pair to the shim's thread.</param>
internal readonly record struct ShimHello(int Descriptor, int ProcessId, UserFaultFeatures Features, int Unmap)
{
    internal const int Bytes = 32;
    private const uint Magic = 0x48534246;
    private const uint Version = 2;

    /// <exception cref="FabricException">incompatible: another shim, or one that could not get all features.</exception>
    internal static ShimHello Parse(ReadOnlySpan<byte> bytes)
    {
        if (bytes.Length != Bytes || BinaryPrimitives.ReadUInt32LittleEndian(bytes) != Magic || BinaryPrimitives.ReadUInt32LittleEndian(bytes[4..]) != Version)
            throw new FabricException(ErrorCodes.Incompatible, "The library preloaded into QEMU is not this agent's.", "Install libfabric-shim.so of the same version.");
        var features = (UserFaultFeatures)BinaryPrimitives.ReadInt64LittleEndian(bytes[16..]);
        return (features & UserFaultFeatures.Required) == UserFaultFeatures.Required
            ? new ShimHello(BinaryPrimitives.ReadInt32LittleEndian(bytes[8..]), BinaryPrimitives.ReadInt32LittleEndian(bytes[12..]), features, BinaryPrimitives.ReadInt32LittleEndian(bytes[24..]))
            : throw new FabricException(ErrorCodes.Incompatible, $"The kernel's userfaultfd offers {features}, but {UserFaultFeatures.Required} are needed.", "Use Linux 6.7 or newer.");
    }
}
