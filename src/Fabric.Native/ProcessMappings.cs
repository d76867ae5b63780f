using System.Globalization;
using Fabric.Core;

namespace Fabric.Native;

/// <summary>Where a process has a file mapped, and what a userfaultfd traps there.</summary>
public readonly record struct FileMapping(ulong Start, ulong End, UserFaultModes Modes)
{
    public long Length => (long)(End - Start);
}

/// <summary>Reads <c>/proc/PID/maps</c> and <c>smaps</c>. The text comes from the kernel, but paths in it are other people's: it is parsed with bounds.</summary>
public static class ProcessMappings
{
    // A QEMU process has a few hundred mappings; far more than this is not one.
    private const int MaxLines = 2_000_000;

    /// <summary>The one contiguous mapping of the first <paramref name="length"/> bytes of <paramref name="path"/>.</summary>
    /// <param name="withModes">Also reads what the range is registered for; costs a walk over its page tables.</param>
    /// <exception cref="FabricException">machine-failed: the process does not map the file, or only in pieces that do not touch.</exception>
    public static FileMapping Find(int processId, string path, long length, bool withModes)
    {
        using var reader = new StreamReader($"/proc/{processId}/{(withModes ? "smaps" : "maps")}");
        return Parse(reader, path, length)
            ?? throw new FabricException(ErrorCodes.MachineFailed, $"Process {processId} does not map {length} bytes of {path} in one piece.");
    }

    internal static FileMapping? Parse(TextReader text, string path, long length)
    {
        FileMapping? found = null;
        bool inside = false;
        for (int i = 0; i < MaxLines && text.ReadLine() is { } line; i++)
        {
            if (inside && line.StartsWith("VmFlags:", StringComparison.Ordinal))
            {
                found = found!.Value with { Modes = found.Value.Modes | ModesOf(line) };
                continue;
            }

            if (!TryParseHeader(line, out ulong start, out ulong end, out ulong offset, out var name))
                continue;
            inside = name.SequenceEqual(path);
            if (!inside)
                continue;
            if (found is null && offset == 0)
                found = new FileMapping(start, end, UserFaultModes.None);
            else if (found is { } sofar && sofar.End == start && offset == (ulong)sofar.Length)
                found = sofar with { End = end };
            else
                inside = false;
        }

        return found is { } mapping && mapping.Length >= length ? mapping with { End = mapping.Start + (ulong)length } : null;
    }

    // 7f00-7f10 rw-s 00000000 00:01 42                  /dev/shm/name with spaces
    private static bool TryParseHeader(ReadOnlySpan<char> line, out ulong start, out ulong end, out ulong offset, out ReadOnlySpan<char> name)
    {
        start = end = offset = 0;
        name = default;
        int dash = line.IndexOf('-');
        int space = line.IndexOf(' ');
        if (dash <= 0 || space <= dash
            || !ulong.TryParse(line[..dash], NumberStyles.AllowHexSpecifier, CultureInfo.InvariantCulture, out start)
            || !ulong.TryParse(line[(dash + 1)..space], NumberStyles.AllowHexSpecifier, CultureInfo.InvariantCulture, out end))
        {
            return false;
        }

        var rest = line[(space + 1)..];
        Span<Range> fields = stackalloc Range[5];
        int count = rest.Split(fields, ' ', StringSplitOptions.RemoveEmptyEntries);
        if (count < 5 || !ulong.TryParse(rest[fields[1]], NumberStyles.AllowHexSpecifier, CultureInfo.InvariantCulture, out offset))
            return false;

        // The last field holds the inode and, behind it, everything that is left of the line.
        var tail = rest[fields[4]];
        name = tail;
        return true;
    }

    private static UserFaultModes ModesOf(ReadOnlySpan<char> flags)
    {
        var modes = UserFaultModes.None;
        foreach (var range in flags.Split(' '))
        {
            if (flags[range].SequenceEqual("um"))
                modes |= UserFaultModes.Missing;
            else if (flags[range].SequenceEqual("uw"))
                modes |= UserFaultModes.WriteProtect;
        }

        return modes;
    }
}
