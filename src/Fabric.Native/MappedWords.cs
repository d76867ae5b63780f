namespace Fabric.Native;

/// <summary>
/// A window of 64-bit words in mapped memory: bitmaps and tables that must outlive the process (a file on tmpfs) or be large without weighing
/// on the garbage collector. It does not own the memory. Members that begin with <c>Atomic</c> may be used by many threads at once.
/// </summary>
public sealed unsafe class MappedWords
{
    private readonly MappedMemory _memory;
    private readonly long _offset;

    /// <param name="offset">Bytes from the start of the mapping; a multiple of 8.</param>
    public MappedWords(MappedMemory memory, long offset, int count)
    {
        ArgumentNullException.ThrowIfNull(memory);
        if (offset < 0 || (offset & 7) != 0 || count < 0 || offset + (8L * count) > memory.Length)
            throw new ArgumentOutOfRangeException(nameof(offset), offset, $"{count} words do not fit a mapping of {memory.Length} bytes there.");
        _memory = memory;
        _offset = offset;
        Count = count;
    }

    public int Count { get; }

    // SAFETY: the range was checked against the mapping; Address throws once it is unmapped.
    public Span<ulong> Span => new((void*)(_memory.Address + (nint)_offset), Count);

    /// <summary>Reads a bit.</summary>
    public bool Bit(long index) => (Volatile.Read(ref Span[(int)(index >> 6)]) >> (int)(index & 63) & 1) != 0;

    /// <summary>Sets a bit; true when this call was the one that set it.</summary>
    public bool AtomicSetBit(long index)
    {
        ulong bit = 1UL << (int)(index & 63);
        return (Interlocked.Or(ref Span[(int)(index >> 6)], bit) & bit) == 0;
    }

    public long CountBits()
    {
        long count = 0;
        foreach (ulong word in Span)
            count += System.Numerics.BitOperations.PopCount(word);
        return count;
    }
}
