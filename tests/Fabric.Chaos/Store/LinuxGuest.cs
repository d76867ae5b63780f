using Fabric.Chaos.Cluster;
using Fabric.Chaos.Rows;
using Fabric.Core;
using Fabric.Machines.Guests;

namespace Fabric.Chaos.Store;

/// <summary>A Linux guest with a memory oracle and a heartbeat, as what it writes to the serial lines of both hosts shows it.</summary>
internal sealed class LinuxGuest(ChaosCluster cluster, VmName name)
{
    private readonly Outside _outside = new(cluster.Local, name);
    private long _written;
    private long _grewAt = TimeProvider.System.GetTimestamp();

    internal VmName Name => name;

    /// <summary>Why no such guest can be had, or null.</summary>
    internal static string? WhyNot => Kernel is null || Initrd is null ? "no test guest: guests/build.sh builds it, and FABRIC_GUEST_KERNEL and FABRIC_GUEST_INITRD name it" : null;

    /// <summary>The longest time for which it wrote nothing while it was looked at.</summary>
    internal TimeSpan LongestSilence { get; private set; }

    internal IReadOnlyList<SeenMachine> Machines => _outside.Machines();

    internal VmSpec Spec => new()
    {
        Name = name,
        Accelerator = Accelerator.Tcg,
        MemoryBytes = 128 * ByteSize.Mebi,
        Kernel = Kernel,
        Initrd = Initrd,
        Append = "fabric.workload=oracle fabric.mb=4 fabric.rate=200",
    };

    private static string? Kernel => Environment.GetEnvironmentVariable("FABRIC_GUEST_KERNEL");

    private static string? Initrd => Environment.GetEnvironmentVariable("FABRIC_GUEST_INITRD");

    internal long Written(string host) => _outside.Written(host);

    /// <summary>Looks whether it wrote since the last look.</summary>
    internal void Look()
    {
        long now = Written(Step.Source) + Written(Step.Destination);
        var since = TimeProvider.System.GetElapsedTime(_grewAt);
        if (since > LongestSilence)
            LongestSilence = since;
        if (now <= _written)
            return;
        (_written, _grewAt) = (now, TimeProvider.System.GetTimestamp());
    }

    /// <summary>Forgets the silences so far.</summary>
    internal void BeginToLook()
    {
        Look();
        (_grewAt, LongestSilence) = (TimeProvider.System.GetTimestamp(), TimeSpan.Zero);
    }

    /// <summary>All that it ever said, in the order in which it was said: it moves once, from the source to the destination.</summary>
    internal HeartbeatLog Log()
    {
        var log = new HeartbeatLog();
        foreach (string host in new[] { Step.Source, Step.Destination })
        {
            string file = Path.Combine(cluster.Local.StateOf(host), "console", $"{name}.log");
            if (!File.Exists(file))
                continue;
            using var reader = new StreamReader(new FileStream(file, FileMode.Open, FileAccess.Read, FileShare.ReadWrite | FileShare.Delete));
            log.Append(reader.ReadToEnd());
        }

        return log;
    }
}
