using System.Text;
using Fabric.Cli.Local;
using Fabric.Core;
using Fabric.Machines.Guests;

namespace Fabric.Benchmarks.Moving;

/// <summary>
/// All that a guest has said, in its own order, across moves. Each host keeps a file of what the guest wrote there; when a move has
/// completed the source's file grows no more, so that its rest and then the destination's file continue the line exactly. A guest that was
/// set back to an older moment, or ran in two places, therefore shows as a break in the numbers of its beats. One user at a time.
/// </summary>
public sealed class GuestRecord(LocalCluster cluster, VmName guest)
{
    private const int ChunkBytes = 64 * 1024;

    private readonly Dictionary<HostName, long> _offsets = [];
    private readonly byte[] _chunk = new byte[ChunkBytes];

    public HeartbeatLog Log { get; } = new();

    /// <summary>Adds what the guest has written at a host since it was read there last.</summary>
    public void ReadFrom(HostName host)
    {
        string? path = Directory.EnumerateFiles(cluster.StateOf(host.Value), $"{guest}.log", SearchOption.AllDirectories).FirstOrDefault();
        if (path is null)
            return;
        using var file = new FileStream(path, FileMode.Open, FileAccess.Read, FileShare.ReadWrite | FileShare.Delete);
        file.Position = _offsets.GetValueOrDefault(host);
        for (int read; (read = file.Read(_chunk)) > 0;)
            Log.Append(Encoding.Latin1.GetString(_chunk, 0, read));
        _offsets[host] = file.Position;
    }

    /// <summary>What is wrong with what it said, in a sentence, or null.</summary>
    public string? Complaint()
    {
        if (Log.ErrorLines.Count > 0)
            return $"{Log.ErrorLineCount} error lines, the first: {Log.ErrorLines[0]}";
        if (!Log.IsClean)
            return $"its beats count {Log.Beats[^1].Errors} errors";
        if (Log.SequenceBreaks > 0 || Log.MalformedBeats > 0)
            return $"{Log.SequenceBreaks} breaks in the numbers of its beats, {Log.MalformedBeats} torn beats: it lost a moment or ran twice";
        return Log.OkCount == 0 ? "its checker has never gone over its memory" : null;
    }
}
