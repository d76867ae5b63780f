using System.Buffers.Binary;
using System.Security.Cryptography;
using Fabric.Core;

namespace Fabric.Machines.Synthetic;

/// <summary>
/// The synthetic guest's processor: everything that is not in memory. It is the device state of a migration:
/// <code>
/// magic "FSYN" u32 | version u16 = 1 | kind u8 | 0 u8 | seed u64 | memory pages u64 | workload pages u64 | rate u64
/// | random u64 | sweep u64 | position u64 | errors u64 | tick u64 | operations u64 | SHA-256 of all before it, 32 bytes
/// </code>
/// Little-endian, of one length only.
/// </summary>
internal sealed record Registers
{
    internal const int EncodedLength = BodyLength + SHA256.HashSizeInBytes;

    private const int BodyLength = 8 + 10 * 8;
    private const uint Magic = 0x4E595346;
    private const ushort Version = 1;

    internal ulong Random { get; set; }

    /// <summary>The sweep under way, from 1.</summary>
    internal ulong Sweep { get; set; } = 1;

    /// <summary>Pages of this sweep that are written.</summary>
    internal long Position { get; set; }

    internal long Errors { get; set; }

    internal long Tick { get; set; }

    internal long Operations { get; set; }

    internal byte[] Encode(Workload workload, long memoryPages)
    {
        byte[] state = new byte[EncodedLength];
        BinaryPrimitives.WriteUInt32LittleEndian(state, Magic);
        BinaryPrimitives.WriteUInt16LittleEndian(state.AsSpan(4), Version);
        state[6] = (byte)workload.Kind;
        Span<ulong> fields =
        [
            workload.Seed, (ulong)memoryPages, (ulong)workload.Pages, (ulong)workload.Rate,
            Random, Sweep, (ulong)Position, (ulong)Errors, (ulong)Tick, (ulong)Operations,
        ];
        for (int i = 0; i < fields.Length; i++)
            BinaryPrimitives.WriteUInt64LittleEndian(state.AsSpan(8 + 8 * i), fields[i]);
        SHA256.HashData(state.AsSpan(0, BodyLength), state.AsSpan(BodyLength));
        return state;
    }

    /// <exception cref="FabricException">malformed, corrupt, or incompatible with this machine; nothing is loaded then.</exception>
    internal static Registers Decode(ReadOnlySpan<byte> state, Workload workload, long memoryPages)
    {
        if (state.Length != EncodedLength)
            throw new FabricException(ErrorCodes.Malformed, $"A synthetic device state has {EncodedLength} bytes; this one has {state.Length}.");
        if (BinaryPrimitives.ReadUInt32LittleEndian(state) != Magic || state[7] != 0)
            throw new FabricException(ErrorCodes.Malformed, "This is not a device state of a synthetic machine.", "Was the VM moved between machines of different kinds?");
        ushort version = BinaryPrimitives.ReadUInt16LittleEndian(state[4..]);
        if (version != Version)
            throw new FabricException(ErrorCodes.Incompatible, $"The synthetic device state has version {version}; this program knows {Version}.");
        Span<byte> digest = stackalloc byte[SHA256.HashSizeInBytes];
        SHA256.HashData(state[..BodyLength], digest);
        if (!digest.SequenceEqual(state[BodyLength..]))
            throw new FabricException(ErrorCodes.Corrupt, "The synthetic device state does not match its digest.");
        Span<ulong> fields = stackalloc ulong[10];
        for (int i = 0; i < fields.Length; i++)
            fields[i] = BinaryPrimitives.ReadUInt64LittleEndian(state[(8 + 8 * i)..]);
        bool same = state[6] == (byte)workload.Kind && fields[0] == workload.Seed && fields[1] == (ulong)memoryPages
            && fields[2] == (ulong)workload.Pages && fields[3] == (ulong)workload.Rate;
        if (!same)
            throw new FabricException(ErrorCodes.Incompatible, "The synthetic device state is of a machine with another memory or workload.", "Both hosts must be given the same VM specification.");
        if (fields[5] == 0 || fields[6] >= (ulong)workload.Pages || fields[7] > long.MaxValue || fields[8] > long.MaxValue || fields[9] > long.MaxValue)
            throw new FabricException(ErrorCodes.Malformed, "The synthetic device state has a register out of range.");
        return new Registers
        {
            Random = fields[4],
            Sweep = fields[5],
            Position = (long)fields[6],
            Errors = (long)fields[7],
            Tick = (long)fields[8],
            Operations = (long)fields[9],
        };
    }
}
