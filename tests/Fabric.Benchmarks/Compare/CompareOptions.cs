using System.Globalization;
using Fabric.Core;

namespace Fabric.Benchmarks.Compare;

/// <summary>What a comparison is asked to do: every link with every memory with every workload is a cell, and has every mover in every mode.</summary>
public sealed record CompareOptions
{
    private const string ModeNames = "pre-copy, post-copy, auto";
    private const string LoadNames = "idle, read-heavy, write-heavy";

    private const double LeastCap = 30;

    public required int Runs { get; init; }

    public required IReadOnlyList<MoveLink> Links { get; init; }

    public required IReadOnlyList<LoadKind> Loads { get; init; }

    public required IReadOnlyList<long> Memories { get; init; }

    /// <summary>MiB that the workload fills; null: most of the guest's memory.</summary>
    public required int? Filled { get; init; }

    public required WriteRate Rate { get; init; }

    public required IReadOnlyList<MoveMode> Modes { get; init; }

    /// <summary>Names of movers; empty: all.</summary>
    public required IReadOnlyList<string> Only { get; init; }

    public required int Channels { get; init; }

    /// <summary>Seconds after which a move is called off; null: see <see cref="WithinOf"/>.</summary>
    public required int? Cap { get; init; }

    public required string Kernel { get; init; }

    public required string Initrd { get; init; }

    /// <summary>As QEMU names it.</summary>
    public required string Accelerator { get; init; }

    /// <exception cref="FabricException">invalid-argument or not-found, with the option and its value.</exception>
    public static CompareOptions Read(IReadOnlyDictionary<string, string> values)
    {
        ArgumentNullException.ThrowIfNull(values);
        var options = new CompareOptions
        {
            Runs = BenchOptions.Number(values, "runs", 10, 1, 1000),
            Links = List(values, "link", MoveLink.Loopback.Name, MoveLink.Parse),
            Loads = List(values, "workload", "write-heavy", Load),
            Memories = List(values, "memory", "256M", static text => ByteSize.Parse(text, "--memory")),
            Filled = values.ContainsKey("mb") ? BenchOptions.Number(values, "mb", 0, 1, 1 << 20) : null,
            Rate = WriteRate.Parse(values.GetValueOrDefault("rate", "5000")),
            Modes = List(values, "modes", "pre-copy,post-copy", Mode),
            Only = values.TryGetValue("only", out string? names) ? names.Split(',') : [],
            Channels = BenchOptions.Number(values, "channels", 2, 1, 255),
            Cap = values.ContainsKey("cap") ? BenchOptions.Number(values, "cap", 0, 1, 3600) : null,
            Kernel = BenchOptions.Existing(values, "kernel", "FABRIC_GUEST_KERNEL"),
            Initrd = BenchOptions.Existing(values, "initrd", "FABRIC_GUEST_INITRD"),
            Accelerator = BenchOptions.AcceleratorOf(values) == Core.Accelerator.Kvm ? "kvm" : "tcg",
        };
        foreach (var (link, memory, load) in options.Places())
            _ = options.LoadOf(link, memory, load); // refused now, not after an hour
        return options;
    }

    /// <summary>The cells in the order in which they are measured.</summary>
    public IEnumerable<(MoveLink Link, long Memory, LoadKind Load)> Places() =>
        from link in Links from memory in Memories from load in Loads select (link, memory, load);

    public GuestLoad LoadOf(MoveLink link, long memory, LoadKind kind) => GuestLoad.Of(kind, memory, Filled, Rate, link);

    /// <summary>A move that takes longer is called off. Unless given: half a minute, or twice what a copy of the guest takes the link, where that is longer.</summary>
    public TimeSpan WithinOf(MoveLink link, GuestLoad load)
    {
        ArgumentNullException.ThrowIfNull(link);
        ArgumentNullException.ThrowIfNull(load);
        return TimeSpan.FromSeconds(Cap ?? Math.Max(LeastCap, Math.Ceiling(2 * load.MemoryBytes / (link.BytesPerSecond ?? double.MaxValue))));
    }

    /// <summary>What measures this cell alone.</summary>
    public string Command(MoveLink link, GuestLoad load)
    {
        ArgumentNullException.ThrowIfNull(link);
        ArgumentNullException.ThrowIfNull(load);
        string rate = load.Kind == LoadKind.WriteHeavy ? string.Create(CultureInfo.InvariantCulture, $" --rate {load.Rate}") : "";
        string only = Only.Count > 0 ? $" --only {string.Join(',', Only)}" : "";
        return string.Create(
            CultureInfo.InvariantCulture,
            $"fabric-bench compare-qemu --runs {Runs} --link {link.Name} --workload {NameOf(load.Kind)} --memory {load.MemoryBytes / ByteSize.Mebi}M --mb {load.Filled}{rate} --modes {string.Join(',', Modes.Select(NameOf))}{only} --channels {Channels} --cap {WithinOf(link, load).TotalSeconds:0} --accel {Accelerator}");
    }

    public static string NameOf(MoveMode mode) => mode switch { MoveMode.PreCopy => "pre-copy", MoveMode.PostCopy => "post-copy", _ => "auto" };

    public static string NameOf(LoadKind kind) => kind switch { LoadKind.Idle => "idle", LoadKind.ReadHeavy => "read-heavy", _ => "write-heavy" };

    private static MoveMode Mode(string text) => Enum.GetValues<MoveMode>().Cast<MoveMode?>().FirstOrDefault(m => NameOf(m!.Value) == text)
        ?? throw new FabricException(ErrorCodes.InvalidArgument, $"'{Label.Shorten(text)}' is not a mode.", $"Use some of {ModeNames}.");

    private static LoadKind Load(string text) => Enum.GetValues<LoadKind>().Cast<LoadKind?>().FirstOrDefault(k => NameOf(k!.Value) == text)
        ?? throw new FabricException(ErrorCodes.InvalidArgument, $"'{Label.Shorten(text)}' is no workload of this comparison.", $"Use some of {LoadNames}.");

    private static List<T> List<T>(IReadOnlyDictionary<string, string> values, string name, string fallback, Func<string, T> read) =>
        [.. values.GetValueOrDefault(name, fallback).Split(',').Select(read).Distinct()];
}
