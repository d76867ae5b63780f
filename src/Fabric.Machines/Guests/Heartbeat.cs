using System.Globalization;

namespace Fabric.Machines.Guests;

/// <summary>
/// One sample of the host's wall clock as the guest saw it at an edge of the CMOS second.
/// </summary>
/// <param name="OffsetUs">Host time minus guest time in microseconds, counted from the guest's first sample. Rises by the length of every stop.</param>
/// <param name="UncertaintyUs">Width in microseconds of the interval in which the edge fell.</param>
/// <param name="EdgeMs">When, in guest milliseconds.</param>
public readonly record struct HostClockSample(long OffsetUs, long UncertaintyUs, long EdgeMs);

/// <summary>One line of the guest's heartbeat: see guests/src/heartbeat.c for who writes it.</summary>
/// <param name="Sequence">Counts lines from 1; consecutive in an unbroken log.</param>
/// <param name="GuestMs">Guest milliseconds (CLOCK_MONOTONIC_RAW) when the line was written.</param>
/// <param name="GapMaxUs">Longest time in microseconds between two beats since the line before, on the guest's clock.</param>
/// <param name="GapAtMs">Guest milliseconds of the end of that gap.</param>
/// <param name="Host">The newest sample of the host's clock; null before the first, and where the guest cannot read one.</param>
/// <param name="Operations">Steps (pages) that the workload has done.</param>
/// <param name="Errors">Errors that the guest has found in its own memory or disk.</param>
/// <param name="DiskOperations">Verified disk writes.</param>
public sealed record Heartbeat(
    long Sequence, long GuestMs, long GapMaxUs, long GapAtMs, HostClockSample? Host, long Operations, long Errors, long DiskOperations)
{
    /// <summary>What every line of a beat begins with.</summary>
    public const string Prefix = "HB ";

    /// <summary>The fields in the order in which the guest writes them; a line with others, fewer or more is no beat.</summary>
    private static readonly IReadOnlyList<string> Names = Array.AsReadOnly(
        ["seq", "t", "gap_max_us", "at", "off_us", "unc_us", "edge", "ops", "errors", "disk"]);

    /// <summary>Reads one line without its line end. The guest is not trusted: anything that is not exactly a beat is refused.</summary>
    public static bool TryParse(ReadOnlySpan<char> line, out Heartbeat? beat)
    {
        beat = null;
        if (!line.StartsWith(Prefix, StringComparison.Ordinal))
            return false;
        Span<long> values = stackalloc long[10];
        bool hostKnown = true;
        ReadOnlySpan<char> rest = line[Prefix.Length..];
        for (int i = 0; i < values.Length; i++)
        {
            int end = rest.IndexOf(' ');
            bool last = i == values.Length - 1;
            if (last != end < 0)
                return false;
            ReadOnlySpan<char> field = last ? rest : rest[..end];
            rest = last ? [] : rest[(end + 1)..];
            if (!TryField(field, Names[i], out values[i], out bool absent) || (absent && i is < 4 or > 6))
                return false;
            hostKnown &= !absent;
        }

        for (int i = 0; i < values.Length; i++)
        {
            // Only the offset may be below zero, and nothing is so large that arithmetic on it could overflow.
            if ((values[i] < 0 && i != 4) || Math.Abs(values[i]) > long.MaxValue / 4096)
                return false;
        }

        HostClockSample? host = hostKnown ? new HostClockSample(values[4], values[5], values[6]) : null;
        beat = new Heartbeat(values[0], values[1], values[2], values[3], host, values[7], values[8], values[9]);
        return true;
    }

    private static bool TryField(ReadOnlySpan<char> field, string name, out long value, out bool absent)
    {
        value = 0;
        absent = false;
        if (field.Length <= name.Length + 1 || !field.StartsWith(name, StringComparison.Ordinal) || field[name.Length] != '=')
            return false;
        ReadOnlySpan<char> text = field[(name.Length + 1)..];
        absent = text is "-";
        return absent || long.TryParse(text, NumberStyles.AllowLeadingSign, CultureInfo.InvariantCulture, out value) && value != long.MinValue;
    }
}
