using System.Globalization;
using Fabric.Core;

namespace Fabric.Benchmarks.Moving;

/// <summary>
/// <see cref="WarmMemory"/> is not enough where the machine reports what is free to its host, which takes it away after seconds: the kernel gives out what was freed last only for single pages. Who takes huge pages, as a
/// destination of QEMU's own does, got cold ones (a push of 876 MiB took 3400 to 3800 ms so, and 760 to 870 ms from warm memory). So while this lives nothing is reported, and all that was free at its begin
/// has been touched once. Does nothing on a machine that reports nothing, or where it may not be asked to stop. A process that is killed leaves the reporting off; writing the number back turns it on.
/// </summary>
public sealed class KeptMemory : IDisposable
{
    private const string LeastOrder = "/sys/module/page_reporting/parameters/page_reporting_order";

    /// <summary>Beyond the largest blocks that the kernel has.</summary>
    private const string Nothing = "11";

    /// <summary>Left alone: the kernel's and everybody else's.</summary>
    private const long Margin = 2 * ByteSize.Gibi;

    private readonly string? _before;

    private KeptMemory(string? before) => _before = before;

    /// <summary>Stops the reporting; what is free is still as it is.</summary>
    public static KeptMemory Begin()
    {
        try
        {
            string before = File.ReadAllText(LeastOrder).Trim();
            File.WriteAllText(LeastOrder, Nothing);
            return new KeptMemory(before);
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            return new KeptMemory(null);
        }
    }

    /// <summary>Touches what is free, which may take minutes.</summary>
    public void TouchAll(TextWriter talk, CancellationToken cancellation)
    {
        ArgumentNullException.ThrowIfNull(talk);
        if (_before is null)
            return;
        long available = AvailableBytes();
        talk.WriteLine(string.Create(CultureInfo.InvariantCulture, $"This machine reports free memory to its host: stopped meanwhile (page_reporting_order was {_before}); touching {ByteSize.Format(available)}"));
        List<WarmMemory> touched = [];
        for (; available > Margin && !cancellation.IsCancellationRequested; available -= ByteSize.Gibi)
            touched.Add(new WarmMemory(ByteSize.Gibi));
        foreach (var piece in touched)
            piece.Dispose();
        cancellation.ThrowIfCancellationRequested();
    }

    public void Dispose()
    {
        if (_before is not null)
            File.WriteAllText(LeastOrder, _before);
    }

    private static long AvailableBytes()
    {
        string line = File.ReadLines("/proc/meminfo").First(static l => l.StartsWith("MemAvailable:", StringComparison.Ordinal));
        return long.Parse(line.Split(' ', StringSplitOptions.RemoveEmptyEntries)[1], CultureInfo.InvariantCulture) * ByteSize.Kibi;
    }
}
