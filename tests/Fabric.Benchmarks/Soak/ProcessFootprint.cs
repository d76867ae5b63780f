using System.Globalization;
using System.Text.Json.Serialization;

namespace Fabric.Benchmarks.Soak;

/// <summary>
/// What a process holds at one moment, by the kernel. <paramref name="ResidentBytes"/> is VmRSS; <paramref name="SharedBytes"/> the part of
/// it in shared memory, which at a host with a guest is mostly the guest's RAM.
/// </summary>
public sealed record ProcessFootprint(string Member, int ProcessId, long ResidentBytes, long SharedBytes, int Descriptors, int Threads)
{
    /// <summary>Heap, stacks and code: what a leak of the daemon itself would make grow.</summary>
    [JsonIgnore]
    public long OwnBytes => ResidentBytes - SharedBytes;

    /// <exception cref="IOException">The process is gone.</exception>
    public static ProcessFootprint Of(string member, int processId)
    {
        string directory = $"/proc/{processId.ToString(CultureInfo.InvariantCulture)}";
        var status = File.ReadLines(directory + "/status").Select(line => line.Split(':', 2)).Where(parts => parts.Length == 2)
            .ToDictionary(parts => parts[0], parts => parts[1].Trim(), StringComparer.Ordinal);
        return new ProcessFootprint(
            member,
            processId,
            Kibibytes(status, "VmRSS") * 1024,
            Kibibytes(status, "RssShmem") * 1024,
            Directory.GetFileSystemEntries(directory + "/fd").Length,
            Directory.GetFileSystemEntries(directory + "/task").Length);
    }

    private static long Kibibytes(Dictionary<string, string> status, string name) =>
        long.Parse(status[name].Split(' ')[0], NumberStyles.None, CultureInfo.InvariantCulture);
}
