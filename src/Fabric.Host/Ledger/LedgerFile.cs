// A VM's ledger on disk. One line a record:
//
//     crc32c of the JSON, 8 hex digits | ' ' | JSON | '\n'
//
// Appends are one write and one fsync for all records of a step; the caller goes on only after it. A last line that is torn
// (no newline, or a checksum that does not match) was never acknowledged and is cut off when the file is opened. A damaged line
// before the last one is not survivable by guessing: the file is left as it is and the VM is refused.
using System.Buffers;
using System.Globalization;
using System.Numerics;
using System.Text;
using System.Text.Json;
using Fabric.Core;
using Fabric.Native;
using Microsoft.Win32.SafeHandles;

namespace Fabric.Host.Ledger;

/// <summary>Where a VM's records go. One owner: the VM's actor.</summary>
public interface IVmLedger : IDisposable
{
    VmLedgerState State { get; }

    /// <summary>
    /// Makes the records durable, then applies them. Nothing is written when one of them is not legal.
    /// </summary>
    /// <exception cref="FabricException">store-failed: whether the records are on disk is unknown; the ledger refuses every further append.</exception>
    void Append(params ReadOnlySpan<VmRecord> records);
}

/// <summary>Opens ledgers: a directory in production, memory in simulation.</summary>
public interface ILedgerStore
{
    IReadOnlyList<VmName> List();

    IVmLedger Open(VmName vm);
}

public sealed class LedgerDirectory(string directory) : ILedgerStore
{
    public IReadOnlyList<VmName> List()
    {
        Directory.CreateDirectory(directory);
        var names = new List<VmName>();
        foreach (string file in Directory.EnumerateFiles(directory, "*.ledger"))
        {
            if (VmName.TryParse(Path.GetFileNameWithoutExtension(file), out var name))
                names.Add(name);
        }

        return names;
    }

    public IVmLedger Open(VmName vm)
    {
        Directory.CreateDirectory(directory);
        return LedgerFile.Open(Path.Combine(directory, vm.Value + ".ledger"));
    }
}

public sealed class LedgerFile : IVmLedger
{
    /// <summary>A longer file is rewritten as one summary line when it is opened.</summary>
    private const int CompactAbove = 256 * 1024;

    private const int MaxBytes = 64 * 1024 * 1024;

    private readonly string _path;
    private SafeFileHandle _file;
    private long _length;
    private bool _failed;

    private LedgerFile(string path, SafeFileHandle file, long length, VmLedgerState state)
    {
        _path = path;
        _file = file;
        _length = length;
        State = state;
    }

    public VmLedgerState State { get; private set; }

    /// <exception cref="FabricException">corrupt: a line before the last is damaged, or a record contradicts the ones before it.</exception>
    public static LedgerFile Open(string path)
    {
        bool isNew = !File.Exists(path);
        var file = File.OpenHandle(path, FileMode.OpenOrCreate, FileAccess.ReadWrite, FileShare.Read);
        try
        {
            if (isNew)
                DirectorySync.Sync(Path.GetDirectoryName(path)!);
            var (state, length) = Replay(path, file);
            RandomAccess.SetLength(file, length);
            var ledger = new LedgerFile(path, file, length, state);
            if (length > CompactAbove)
                ledger.Compact();
            return ledger;
        }
        catch
        {
            file.Dispose();
            throw;
        }
    }

    public void Append(params ReadOnlySpan<VmRecord> records)
    {
        if (_failed)
            throw new FabricException(ErrorCodes.StoreFailed, $"The ledger {_path} failed before; restart the agent to read it again.");
        var next = State;
        var bytes = new ArrayBufferWriter<byte>(512);
        foreach (var record in records)
        {
            next = next.Apply(record);
            WriteLine(bytes, record);
        }

        try
        {
            RandomAccess.Write(_file, bytes.WrittenSpan, _length);
            RandomAccess.FlushToDisk(_file);
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            _failed = true;
            throw new FabricException(ErrorCodes.StoreFailed, $"The ledger {_path} could not be written: {e.Message}", "Free space or repair the disk, then restart the agent.", e);
        }

        _length += bytes.WrittenCount;
        State = next;
    }

    public void Dispose() => _file.Dispose();

    private static (VmLedgerState State, long Length) Replay(string path, SafeFileHandle file)
    {
        long size = RandomAccess.GetLength(file);
        if (size > MaxBytes)
            throw new FabricException(ErrorCodes.Corrupt, $"The ledger {path} has {size} bytes, more than a ledger can have.");
        byte[] content = new byte[size];
        int read = 0;
        while (read < content.Length && RandomAccess.Read(file, content.AsSpan(read), read) is > 0 and int n)
            read += n;
        var state = VmLedgerState.Empty;
        int start = 0;
        int line = 0;
        while (start < read)
        {
            line++;
            int length = content.AsSpan(start, read - start).IndexOf((byte)'\n');
            var record = length < 0 ? null : ParseLine(content.AsSpan(start, length));
            if (record is null)
            {
                if (length < 0 || start + length + 1 >= read)
                    break;
                throw new FabricException(ErrorCodes.Corrupt, $"Line {line} of the ledger {path} is damaged.", "The VM is left alone; restore the file or ask for repair.");
            }

            try
            {
                state = state.Apply(record);
            }
            catch (LedgerContradictionException e)
            {
                throw new FabricException(ErrorCodes.Corrupt, $"Line {line} of the ledger {path}: {e.Message}", "The VM is left alone; restore the file or ask for repair.", e);
            }

            start += length + 1;
        }

        return (state, start);
    }

    private static VmRecord? ParseLine(ReadOnlySpan<byte> line)
    {
        if (line.Length < 10 || line[8] != ' ' ||
            !uint.TryParse(line[..8], NumberStyles.AllowHexSpecifier, CultureInfo.InvariantCulture, out uint checksum) || checksum != Checksum(line[9..]))
        {
            return null;
        }

        try
        {
            return JsonSerializer.Deserialize(line[9..], LedgerJson.Default.VmRecord);
        }
        catch (JsonException)
        {
            return null;
        }
    }

    private static void WriteLine(ArrayBufferWriter<byte> output, VmRecord record)
    {
        byte[] json = JsonSerializer.SerializeToUtf8Bytes(record, LedgerJson.Default.VmRecord);
        Encoding.ASCII.GetBytes(Checksum(json).ToString("x8", CultureInfo.InvariantCulture), output);
        output.Write(" "u8);
        output.Write(json);
        output.Write("\n"u8);
    }

    private static uint Checksum(ReadOnlySpan<byte> bytes)
    {
        uint crc = uint.MaxValue;
        foreach (byte b in bytes)
            crc = BitOperations.Crc32C(crc, b);
        return ~crc;
    }

    /// <summary>New file beside the old one, synced, renamed over it, directory synced: at each point one whole ledger is there.</summary>
    private void Compact()
    {
        var bytes = new ArrayBufferWriter<byte>(4096);
        WriteLine(bytes, new VmRecord.Summary(State));
        string temporary = _path + ".new";
        using (var fresh = File.OpenHandle(temporary, FileMode.Create, FileAccess.Write))
        {
            RandomAccess.Write(fresh, bytes.WrittenSpan, 0);
            RandomAccess.FlushToDisk(fresh);
        }

        File.Move(temporary, _path, overwrite: true);
        DirectorySync.Sync(Path.GetDirectoryName(_path)!);
        _file.Dispose();
        _file = File.OpenHandle(_path, FileMode.Open, FileAccess.ReadWrite, FileShare.Read);
        _length = bytes.WrittenCount;
    }
}
