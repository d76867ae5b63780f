namespace Fabric.Core;

/// <summary>Ids from an injected generator: unlike <see cref="Guid.NewGuid"/>, a simulation can repeat them.</summary>
public static class RandomIds
{
    /// <summary>122 random bits, as a version 4 id. The caller guards <paramref name="random"/>.</summary>
    public static Guid Next(Random random)
    {
        ArgumentNullException.ThrowIfNull(random);
        Span<byte> bytes = stackalloc byte[16];
        random.NextBytes(bytes);
        bytes[6] = (byte)(0x40 | (bytes[6] & 0x0f));
        bytes[8] = (byte)(0x80 | (bytes[8] & 0x3f));
        return new Guid(bytes, bigEndian: true);
    }
}
