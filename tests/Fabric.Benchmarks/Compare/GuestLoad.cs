using System.Globalization;
using Fabric.Core;

namespace Fabric.Benchmarks.Compare;

/// <summary>What the guest does while it is moved. In each, most of its memory holds a pattern of its own for every page, so that nothing of it is zero or alike.</summary>
public enum LoadKind
{
    /// <summary>Twenty of the pages are read each second.</summary>
    Idle,

    /// <summary>Goes over its pages in order as fast as it can, reads every word, and writes one page in 64 anew.</summary>
    ReadHeavy,

    /// <summary>Writes whole pages at random places, at a rate.</summary>
    WriteHeavy,
}

/// <summary>How fast a write-heavy guest writes: pages a second (0: as fast as it can), or as a multiple of the link's rate.</summary>
public readonly record struct WriteRate(int Pages, double? TimesLink)
{
    /// <exception cref="FabricException">invalid-argument, with the value.</exception>
    public static WriteRate Parse(string text)
    {
        ArgumentNullException.ThrowIfNull(text);
        if (text.EndsWith('x') && double.TryParse(text.AsSpan(0, text.Length - 1), NumberStyles.AllowDecimalPoint, CultureInfo.InvariantCulture, out double times) && times is > 0 and <= 100)
            return new WriteRate(0, times);
        return int.TryParse(text, NumberStyles.None, CultureInfo.InvariantCulture, out int pages) && pages <= 1 << 30
            ? new WriteRate(pages, null)
            : throw new FabricException(ErrorCodes.InvalidArgument, $"'{Label.Shorten(text)}' is no value for --rate.", "Use pages a second, 0 for as fast as it can, or a multiple of the link's rate such as 2x.");
    }

    /// <exception cref="FabricException">invalid-argument: a multiple of no rate.</exception>
    public int On(MoveLink link)
    {
        ArgumentNullException.ThrowIfNull(link);
        if (TimesLink is not { } times)
            return Pages;
        return link.BytesPerSecond is { } bytes
            ? (int)(times * bytes / VmSpec.PageSize)
            : throw new FabricException(ErrorCodes.InvalidArgument, $"--rate {times.ToString(CultureInfo.InvariantCulture)}x has no meaning on {link.Name}.", "Give the rate in pages a second, or a --link with a rate.");
    }
}

/// <summary>One guest: what it does, with how much memory, over which link it is moved.</summary>
/// <param name="Filled">MiB that the workload has filled.</param>
/// <param name="Rate">Pages a second; 0 is as fast as it can.</param>
public sealed record GuestLoad(LoadKind Kind, long MemoryBytes, int Filled, int Rate)
{
    private const int IdleRate = 20;

    /// <summary>What the kernel, its initramfs and the guest's tools take of small guests.</summary>
    private const int OwnMebibytes = 96;

    /// <param name="kind">The workload.</param>
    /// <param name="memory">Of the guest, in bytes.</param>
    /// <param name="filled">MiB; null: most of what the guest has.</param>
    /// <param name="rate">Of writing.</param>
    /// <param name="link">That it is moved over.</param>
    /// <exception cref="FabricException">invalid-argument: the guest is too small.</exception>
    public static GuestLoad Of(LoadKind kind, long memory, int? filled, WriteRate rate, MoveLink link)
    {
        long most = (memory / ByteSize.Mebi) - OwnMebibytes;
        long mebibytes = filled ?? most * 85 / 100;
        if (mebibytes < 1 || mebibytes > most)
            throw new FabricException(ErrorCodes.InvalidArgument, $"A guest of {ByteSize.Format(memory)} cannot fill {mebibytes} MiB.", $"Use --memory of 128M at least, and --mb of at most {Math.Max(most, 1)}.");
        return new GuestLoad(kind, memory, (int)mebibytes, kind switch { LoadKind.Idle => IdleRate, LoadKind.ReadHeavy => 0, _ => rate.On(link) });
    }

    public string Append => string.Create(CultureInfo.InvariantCulture, $"fabric.workload={(Kind == LoadKind.WriteHeavy ? "write-heavy" : "read-heavy")} fabric.mb={Filled} fabric.rate={Rate}");

    /// <summary>How long its work is looked at from the start of a move: the same for all movers, and longer than a copy of its memory takes the slowest of them.</summary>
    /// <param name="link">Loopback counts as the 128 MiB/s that QEMU's defaults allow themselves.</param>
    public TimeSpan Window(MoveLink link)
    {
        ArgumentNullException.ThrowIfNull(link);
        double rate = Math.Min(link.BytesPerSecond ?? double.MaxValue, 128 * ByteSize.Mebi);
        return TimeSpan.FromSeconds(Math.Ceiling(3 + (1.5 * MemoryBytes / rate)));
    }
}
