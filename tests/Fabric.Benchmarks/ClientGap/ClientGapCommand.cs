using System.Globalization;
using Fabric.Benchmarks.Lab;
using Fabric.Core;

namespace Fabric.Benchmarks.ClientGap;

/// <summary><c>fabric-bench client-gap</c>: how long a move is felt by who talks to the guest. Exit 1 when it is felt for longer than the downtime and 50 ms.</summary>
public static class ClientGapCommand
{
    public const string Usage = """
        fabric-bench client-gap [--moves 20] [--link-mbit 1000] [--move-mbit N] [--memory 128M] [--mb 16] [--rate 2000] [--accel tcg|kvm]
                                [--kernel FILE --initrd FILE] [--firmware /boot/ipxe.lkrn] [--out DIR]
          Moves a guest between two network namespaces, in every mode in turn, while TCP clients in a third one talk to it. Needs root.
          --firmware: in place of Linux the guest is iPXE (Debian's package ipxe), with --mb MiB downloaded into its memory: of it QEMU has little to translate anew at the destination.
          --link-mbit: of every host's link in each direction; 0: no limit. --move-mbit: what a move may take of it.
          Writes client-gap.md and client-gap.json to DIR (artifacts/bench).
        """;

    public static async Task<int> RunAsync(IReadOnlyDictionary<string, string> values, TextWriter talk, CancellationToken cancellation)
    {
        ArgumentNullException.ThrowIfNull(values);
        ArgumentNullException.ThrowIfNull(talk);
        if (LinkLab.WhyNot is { } lacking)
            throw new FabricException(ErrorCodes.Unsupported, $"There can be no laboratory here: {lacking}.");
        int megabits = BenchOptions.Number(values, "link-mbit", 1000, 0, 100_000);
        int megabytes = BenchOptions.Number(values, "mb", 16, 1, 1 << 20);
        string? firmware = values.GetValueOrDefault("firmware");
        if (firmware is not null && !File.Exists(firmware))
            throw new FabricException(ErrorCodes.NotFound, $"There is no firmware '{Label.Shorten(firmware)}'.", "Install ipxe (Debian, Ubuntu) and give --firmware /boot/ipxe.lkrn.");
        var options = new ClientGapOptions
        {
            Moves = BenchOptions.Number(values, "moves", 20, 1, 100_000),
            Bandwidth = values.ContainsKey("move-mbit") ? BenchOptions.Number(values, "move-mbit", 0, 1, 100_000) * 125_000L : null,
            Shape = megabits == 0 ? null : new LinkShape(megabits * 1_000_000L),
            DownloadBytes = firmware is null ? null : megabytes * (long)ByteSize.Mebi,
            Guest = new VmSpec
            {
                Name = VmName.Parse("server"),
                Accelerator = BenchOptions.AcceleratorOf(values),
                MemoryBytes = ByteSize.Parse(values.GetValueOrDefault("memory", "128M"), "--memory"),
                Kernel = firmware is null ? BenchOptions.Existing(values, "kernel", "FABRIC_GUEST_KERNEL") : Path.GetFullPath(firmware),
                Initrd = firmware is null ? BenchOptions.Existing(values, "initrd", "FABRIC_GUEST_INITRD") : null,
                Append = string.Create(
                    CultureInfo.InvariantCulture,
                    $"fabric.workload=oracle fabric.mb={megabytes} fabric.rate={BenchOptions.Number(values, "rate", 2000, 0, 1 << 30)}"),
            },
        };
        var result = await new ClientGapRun(options, TimeProvider.System, talk.WriteLine).RunAsync(cancellation);
        await BenchReport.WriteAsync(values, "client-gap", result.ToJson(), result.ToMarkdown(), talk);
        return result.Ok ? 0 : 1;
    }
}
