// The destination's half of a broken pull, which must outlive the connections and, when it is in a file, the agent:
//
//   ┌ header 4096 bytes ──────────────────────────────┬ missing ┬ arrived ┬ digests (VerifyLevel.Full only) ┐
//   │ magic, version, sealed, digests?, id, page count│  bits   │  bits   │  16 bytes a page                │
//   └─────────────────────────────────────────────────┴─────────┴─────────┴─────────────────────────────────┘
//
// missing is written once, before `sealed` is set; after that it never changes. A bit of arrived is set only after the page is in the guest's
// memory, by whoever installed it. So after a crash a page may be there whose bit is not set: it comes again and is left as it is. A bit that is set
// for a page which is a hole means that the guest gave the page back: it reads as zeros, the source's old content must not return.
using System.Buffers.Binary;
using System.Runtime.InteropServices;
using Fabric.Core;
using Fabric.Machines;
using Fabric.Native;
using Microsoft.Win32.SafeHandles;

namespace Fabric.Transfer.Incoming;

/// <summary>
/// What is missing, what has arrived, and the trap that the guest waits in. Made and disposed by the agent, used by one
/// <see cref="IncomingTransfer"/> after the other; it must live until the pull is complete. Disposing it leaves the trap alone if the pull is not.
/// </summary>
public sealed class PullState : IDisposable
{
    private const int HeaderSize = 4096;
    private const ulong Magic = 0x4C4C5550_43524246; // "FBRCPULL" in memory order
    private const ulong Version = 1;

    /// <summary>Of a VM of 64 GiB.</summary>
    private const long MapsMadeAhead = HeaderSize + (4 * ByteSize.Mebi);

    private readonly MappedMemory _memory;
    private readonly MappedWords _header;
    private readonly SafeFileHandle? _file;
    private long _arrivedCount;

    private PullState(MappedMemory memory, SafeFileHandle? file, string? path, long pageCount, bool digests)
    {
        _memory = memory;
        _file = file;
        Path = path;
        PageCount = pageCount;
        int words = (int)((pageCount + 63) >> 6);
        _header = new MappedWords(memory, 0, HeaderSize / 8);
        Missing = new MappedWords(memory, HeaderSize, words);
        Arrived = new MappedWords(memory, HeaderSize + (8L * words), words);
        Digests = digests ? new MappedWords(memory, HeaderSize + (16L * words), checked((int)(2 * pageCount))) : null;
    }

    public long PageCount { get; }

    /// <summary>The file, or null for a state that dies with the process.</summary>
    public string? Path { get; }

    /// <summary>True once the map of missing pages is complete: from here on the state can be resumed.</summary>
    public bool IsSealed => Volatile.Read(ref _header.Span[2]) == 1;

    public long MissingCount { get; private set; }

    /// <summary>Pages that are missing no more. Never above <see cref="MissingCount"/>.</summary>
    public long ArrivedCount => Volatile.Read(ref _arrivedCount);

    public bool IsComplete => IsSealed && ArrivedCount == MissingCount;

    internal MappedWords Missing { get; }

    internal MappedWords Arrived { get; }

    /// <summary>Two words a page, low half first; a digest of 0 was not taken. Null where nothing is to be compared.</summary>
    internal MappedWords? Digests { get; }

    /// <summary>Armed by the first transfer that needs it (after a restart of the agent: the next one); disposed by the one that completes the pull.</summary>
    internal IMissingPageTrap? Trap { get; set; }

    /// <summary>Counted over all transfers of this process; made by the first.</summary>
    internal PullFaults? Faults { get; set; }

    /// <summary>A state in memory: it survives a broken link, not the process.</summary>
    public static PullState InMemory(MigrationId migration, long pageCount, bool digests)
    {
        PullState state = new(MappedMemory.Anonymous(Size(pageCount, digests)), null, null, pageCount, digests);
        state.Begin(migration);
        return state;
    }

    /// <summary>A state in a new file (on tmpfs), readable by the owner only. An older file of that name is replaced.</summary>
    /// <exception cref="FabricException">native; exhausted: no room for the file.</exception>
    public static PullState CreateFile(string path, MigrationId migration, long pageCount, bool digests)
    {
        File.Delete(path);
        FileStreamOptions options = new()
        {
            Mode = FileMode.CreateNew,
            Access = FileAccess.ReadWrite,
            PreallocationSize = Size(pageCount, digests),
        };
        if (!OperatingSystem.IsWindows())
            options.UnixCreateMode = UnixFileMode.UserRead | UnixFileMode.UserWrite;
        try
        {
            // Preallocated: a full file system is an error here and not a SIGBUS later.
            using (FileStream stream = new(path, options))
                stream.SetLength(Size(pageCount, digests));
            SafeFileHandle file = File.OpenHandle(path, FileMode.Open, FileAccess.ReadWrite);
            PullState state = new(MappedMemory.MapFile(file, Size(pageCount, digests)), file, path, pageCount, digests);
            state.Begin(migration);
            return state;
        }
        catch (IOException e)
        {
            throw new FabricException(ErrorCodes.Exhausted, $"The pull's state cannot be kept in {path}: {e.Message}", cause: e);
        }
    }

    /// <summary>Takes up a state that an earlier process left.</summary>
    /// <exception cref="FabricException">not-found; malformed: not such a file, or not sealed; conflict: of another migration or VM size.</exception>
    public static PullState OpenFile(string path, MigrationId migration, long pageCount)
    {
        if (!File.Exists(path))
            throw new FabricException(ErrorCodes.NotFound, $"There is no pull state at {path}.");
        SafeFileHandle file = File.OpenHandle(path, FileMode.Open, FileAccess.ReadWrite);
        try
        {
            Span<byte> head = stackalloc byte[HeaderSize];
            if (RandomAccess.Read(file, head, 0) != HeaderSize)
                throw Unusable("it is too short");
            Span<ulong> words = MemoryMarshal.Cast<byte, ulong>(head);
            if (words[0] != Magic || words[1] != Version || words[2] != 1 || words[3] > 1)
                throw Unusable("its header is not that of a sealed pull state of this version");
            MigrationId owner = new(new Guid(head.Slice(40, 16), bigEndian: true));
            if (owner != migration || words[4] != (ulong)pageCount)
                throw new FabricException(ErrorCodes.Conflict, $"{path} belongs to migration {owner} with {words[4]} pages, not to {migration} with {pageCount}.");
            bool digests = words[3] == 1;
            if (RandomAccess.GetLength(file) != Size(pageCount, digests))
                throw Unusable("its length is not what its header says");
            PullState state = new(MappedMemory.MapFile(file, Size(pageCount, digests)), file, path, pageCount, digests);
            state.Count();
            return state;
        }
        catch
        {
            file.Dispose();
            throw;
        }

        FabricException Unusable(string why) => new(ErrorCodes.Malformed, $"{path} is no usable pull state: {why}.");
    }

    /// <summary>True once for each page: the call that was first says that it arrived. Any thread, after the page was installed.</summary>
    internal bool MarkArrived(long page)
    {
        if (!Arrived.AtomicSetBit(page))
            return false;
        Interlocked.Increment(ref _arrivedCount);
        return true;
    }

    internal void Seal()
    {
        Count();
        Volatile.Write(ref _header.Span[2], 1);
    }

    internal void SetDigest(long page, UInt128 digest)
    {
        if (Digests is null)
            return;
        Span<ulong> words = Digests.Span;
        words[(int)(2 * page)] = (ulong)digest;
        words[(int)(2 * page) + 1] = (ulong)(digest >> 64);
    }

    internal UInt128 Digest(long page)
    {
        ReadOnlySpan<ulong> words = Digests!.Span;
        return new UInt128(words[(int)(2 * page) + 1], words[(int)(2 * page)]);
    }

    /// <summary>Unmaps. The file stays until <see cref="Delete"/>.</summary>
    public void Dispose()
    {
        _memory.Dispose();
        _file?.Dispose();
    }

    /// <summary>Removes the file, if there is one: the pull is complete or given up.</summary>
    public void Delete()
    {
        if (Path is not null)
            File.Delete(Path);
    }

    private static long Size(long pageCount, bool digests)
    {
        ArgumentOutOfRangeException.ThrowIfLessThan(pageCount, 1);
        ArgumentOutOfRangeException.ThrowIfGreaterThan(pageCount, 1L << 30);
        return HeaderSize + (16 * ((pageCount + 63) >> 6)) + (digests ? 16 * pageCount : 0);
    }

    // The two maps are first used while the guest stands: of a guest whose maps are small they are there by then.
    private void Begin(MigrationId migration)
    {
        long maps = Size(PageCount, digests: false);
        if (maps <= MapsMadeAhead)
            PageBytes.Populate(_memory.Address, maps);
        WriteHeader(migration);
    }

    private void WriteHeader(MigrationId migration)
    {
        Span<ulong> words = _header.Span;
        words[0] = Magic;
        words[1] = Version;
        words[2] = 0;
        words[3] = Digests is null ? 0u : 1u;
        words[4] = (ulong)PageCount;
        Span<byte> id = stackalloc byte[16];
        migration.Value.TryWriteBytes(id, bigEndian: true, out _);
        words[5] = BinaryPrimitives.ReadUInt64LittleEndian(id);
        words[6] = BinaryPrimitives.ReadUInt64LittleEndian(id[8..]);
    }

    private void Count()
    {
        // A crash cannot leave an arrived page that was not missing; damage could, and must not count.
        Span<ulong> missing = Missing.Span;
        Span<ulong> arrived = Arrived.Span;
        for (int i = 0; i < missing.Length; i++)
            arrived[i] &= missing[i];
        MissingCount = Missing.CountBits();
        Volatile.Write(ref _arrivedCount, Arrived.CountBits());
    }
}
