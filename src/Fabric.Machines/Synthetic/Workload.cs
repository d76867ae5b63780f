using System.Globalization;
using Fabric.Core;

namespace Fabric.Machines.Synthetic;

public enum WorkloadKind
{
    /// <summary>A hundred operations a second over 1 MiB.</summary>
    Idle = 1,

    /// <summary>Nine checked reads to one page written.</summary>
    ReadHeavy = 2,

    /// <summary>Nine pages written to one checked read.</summary>
    WriteHeavy = 3,

    /// <summary>Writes every page in order over all of memory, so that the low bytes of the pages show at most one step.</summary>
    Oracle = 4,
}

/// <summary>
/// What a synthetic guest does all day: <c>kind:seed[:size[:rate]]</c>, for example <c>write-heavy:7:64M:20000</c>.
/// </summary>
/// <param name="Kind">The mix of reads and writes.</param>
/// <param name="Seed">Of the order of pages and of their content.</param>
/// <param name="Pages">Pages that the guest uses, from page 0; the others stay holes.</param>
/// <param name="Rate">Operations a second, one page each: 1 to 10,000,000.</param>
public sealed record Workload(WorkloadKind Kind, ulong Seed, long Pages, int Rate)
{
    public const int MaxRate = 10_000_000;

    private const string Form = "Write kind:seed[:size[:rate]] with kind idle, read-heavy, write-heavy or oracle: write-heavy:7:64M:20000";

    /// <param name="text">Null is <c>idle:1</c>.</param>
    /// <param name="memoryBytes">The guest's RAM.</param>
    /// <exception cref="FabricException">invalid-argument, naming the part that is wrong.</exception>
    public static Workload Parse(string? text, long memoryBytes)
    {
        string[] parts = (text ?? "idle:1").Split(':');
        if (parts.Length is < 1 or > 4)
            throw Invalid($"'{Label.Shorten(text)}' is not a workload.");
        var (kind, size, rate) = parts[0] switch
        {
            "idle" => (WorkloadKind.Idle, ByteSize.Mebi, 100),
            "read-heavy" => (WorkloadKind.ReadHeavy, memoryBytes / 2, 20_000),
            "write-heavy" => (WorkloadKind.WriteHeavy, memoryBytes / 4, 20_000),
            "oracle" => (WorkloadKind.Oracle, memoryBytes, 20_000),
            _ => throw Invalid($"'{Label.Shorten(parts[0])}' is not a kind of workload."),
        };
        ulong seed = 1;
        if (parts.Length > 1 && !ulong.TryParse(parts[1], NumberStyles.None, CultureInfo.InvariantCulture, out seed))
            throw Invalid($"'{Label.Shorten(parts[1])}' is not a seed.");
        if (parts.Length > 2)
            size = ByteSize.Parse(parts[2], "the workload");
        if (size < VmSpec.PageSize || size > memoryBytes || size % VmSpec.PageSize != 0)
            throw Invalid($"A workload of {size} bytes does not fit {memoryBytes} bytes of memory in whole pages.");
        if (parts.Length > 3 && (!int.TryParse(parts[3], NumberStyles.None, CultureInfo.InvariantCulture, out rate) || rate is < 1 or > MaxRate))
            throw Invalid($"'{Label.Shorten(parts[3])}' is not a rate of 1 to {MaxRate} operations a second.");
        return new Workload(kind, seed, size / VmSpec.PageSize, rate);
    }

    private static FabricException Invalid(string message) => new(ErrorCodes.InvalidArgument, message, Form);
}
