using System.Globalization;
using Fabric.Core;

namespace Fabric.Benchmarks.Lab;

/// <summary>
/// The right to one laboratory's names and addresses on this machine: a lock on a file, which the kernel frees when the owner ends in whatever way. Whoever gets the lock knows that
/// what bears the number has no owner any more.
/// </summary>
internal sealed class LabClaim : IDisposable
{
    private const int Most = 100;
    private const string Directory = "/run/fabric-lab";
    private const string Spaces = "/run/netns";

    private readonly FileStream _lock;

    private LabClaim(int number, FileStream held) => (Number, _lock) = (number, held);

    /// <summary>0 to 99; different for all laboratories that exist.</summary>
    internal int Number { get; }

    /// <summary>What names of network namespaces begin with.</summary>
    internal string Prefix => PrefixOf(Number);

    /// <summary>This machine's own end of the wire to the switch.</summary>
    internal string Wire => string.Create(CultureInfo.InvariantCulture, $"flab{Number}");

    /// <summary>A free number. What owners that died left, under this and under other numbers, is removed.</summary>
    internal static LabClaim Take()
    {
        System.IO.Directory.CreateDirectory(Directory);
        LabClaim? taken = null;
        for (int number = 0; number < Most && (taken is null || File.Exists(PathOf(number))); number++)
        {
            if (TryTake(number) is not { } claim)
                continue;
            claim.RemoveAll();
            if (taken is null)
                taken = claim;
            else
                claim.Dispose();
        }

        return taken ?? throw new FabricException(ErrorCodes.Exhausted, $"All {Most} laboratories are in use.", $"Each holds a lock in {Directory}.");
    }

    /// <summary>Removes whatever bears the number. Idempotent; the wire first, since a namespace's own end goes a moment after its name.</summary>
    internal void RemoveAll()
    {
        if (System.IO.Directory.Exists($"/sys/class/net/{Wire}"))
            NetworkTool.Run("ip", "link", "del", Wire);
        foreach (string name in Left())
            NetworkTool.Run("ip", "netns", "del", name);
    }

    /// <summary>Namespaces that bear the number.</summary>
    internal IReadOnlyList<string> Left() =>
        System.IO.Directory.Exists(Spaces) ? [.. System.IO.Directory.EnumerateFiles(Spaces, Prefix + "*").Select(Path.GetFileName).OfType<string>()] : [];

    /// <summary>The file stays: removing it would let two others lock two files of one name.</summary>
    public void Dispose() => _lock.Dispose();

    private static LabClaim? TryTake(int number)
    {
        try
        {
            return new LabClaim(number, new FileStream(PathOf(number), FileMode.OpenOrCreate, FileAccess.ReadWrite, FileShare.None));
        }
        catch (IOException)
        {
            return null; // somebody holds it
        }
    }

    private static string PrefixOf(int number) => string.Create(CultureInfo.InvariantCulture, $"flab{number}-");

    private static string PathOf(int number) => Path.Combine(Directory, string.Create(CultureInfo.InvariantCulture, $"{number}.lock"));
}
