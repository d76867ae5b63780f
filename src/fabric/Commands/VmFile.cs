using System.Globalization;
using Fabric.Cli.Output;
using Fabric.Core;
using YamlDotNet.Core;
using YamlDotNet.RepresentationModel;

namespace Fabric.Cli.Commands;

/// <summary>
/// What the user says of a new VM, by flags or by <c>-f vm.yaml</c>; null = not said. Both name the same things: a flag wins over the file.
/// Relative paths in a file count from the file's own directory.
/// </summary>
internal sealed record VmWish
{
    public string? Name { get; init; }
    public string? On { get; init; }
    public string? Memory { get; init; }
    public int? Vcpus { get; init; }
    public string? Machine { get; init; }
    public string? Accel { get; init; }
    public string? Kernel { get; init; }
    public string? Initrd { get; init; }
    public string? Append { get; init; }
    public string? Workload { get; init; }
    public string? Balloon { get; init; }
    public IReadOnlyList<string> Disks { get; init; } = [];
    public IReadOnlyList<string> Nics { get; init; } = [];

    public VmWish Over(VmWish file) => new()
    {
        Name = Name ?? file.Name,
        On = On ?? file.On,
        Memory = Memory ?? file.Memory,
        Vcpus = Vcpus ?? file.Vcpus,
        Machine = Machine ?? file.Machine,
        Accel = Accel ?? file.Accel,
        Kernel = Kernel ?? file.Kernel,
        Initrd = Initrd ?? file.Initrd,
        Append = Append ?? file.Append,
        Workload = Workload ?? file.Workload,
        Balloon = Balloon ?? file.Balloon,
        Disks = Disks.Count > 0 ? Disks : file.Disks,
        Nics = Nics.Count > 0 ? Nics : file.Nics,
    };

    /// <exception cref="FabricException">invalid-argument: what is missing or wrong, and how to say it.</exception>
    public (VmSpec Spec, HostName Host) Resolve()
    {
        var machine = Words.Parse<MachineKind>(Machine ?? "qemu", "--machine");
        if (machine == MachineKind.Qemu && Workload is not null)
            throw new FabricException(ErrorCodes.InvalidArgument, "--workload is for synthetic machines.", "A guest's own workload goes on its kernel command line: --append fabric.workload=…");
        var spec = new VmSpec
        {
            Name = VmName.Parse(Name),
            Machine = machine,
            Accelerator = Words.Parse<Accelerator>(Accel ?? "auto", "--accel"),
            MemoryBytes = ByteSize.Parse(Memory ?? throw Missing("--memory", "--memory 256M"), "--memory"),
            Vcpus = Vcpus ?? 1,
            Kernel = FullPath(Kernel),
            Initrd = FullPath(Initrd),
            Append = Append,
            Workload = Workload,
            Balloon = Balloon is null ? null : BalloonOf(Balloon),
            Disks = [.. Disks.Select(Disk)],
            Nics = [.. Nics.Select(Nic)],
        };
        return spec.Validate() is { } error ? throw new FabricException(error) : (spec, HostName.Parse(On ?? throw Missing("--on", "--on alpha")));
    }

    private static FabricException Missing(string option, string example) =>
        new(ErrorCodes.InvalidArgument, $"{option} is missing.", $"For example {example}, or in the file given with -f.");

    private static string? FullPath(string? path) => path is null ? null : Path.GetFullPath(path);

    private static DiskSpec Disk(string text)
    {
        string[] parts = text.Split(',');
        if (parts[0].Length == 0 || parts.Length > 2 || (parts.Length == 2 && parts[1] != "shared"))
            throw new FabricException(ErrorCodes.InvalidArgument, $"--disk '{Label.Shorten(text)}' is not understood.", "Write PATH, or PATH,shared when every host reaches it under this path.");
        return new DiskSpec(Path.GetFullPath(parts[0]), parts.Length == 2);
    }

    private static BalloonSpec? BalloonOf(string text) => text.Split(',') switch
    {
        ["off"] => null,
        ["steady"] => new BalloonSpec(),
        ["steady", var interval] when interval.StartsWith("interval=", StringComparison.Ordinal) && Millis(interval["interval=".Length..]) is { } millis => new BalloonSpec(millis),
        _ => throw new FabricException(ErrorCodes.InvalidArgument, $"--balloon '{Label.Shorten(text)}' is not understood.", "Write off, steady, or steady,interval=10s (a whole number of ms, s or m)."),
    };

    /// <summary>Milliseconds; null where it is no whole number with a unit, or more than any interval may be.</summary>
    private static int? Millis(string text)
    {
        var (digits, factor) = text switch
        {
            _ when text.EndsWith("ms", StringComparison.Ordinal) => (text[..^2], 1L),
            _ when text.EndsWith('s') => (text[..^1], 1000L),
            _ when text.EndsWith('m') => (text[..^1], 60_000L),
            _ => ("", 0L),
        };
        return int.TryParse(digits, NumberStyles.None, CultureInfo.InvariantCulture, out int number) && number * factor <= int.MaxValue ? (int)(number * factor) : null;
    }

    private static NicSpec Nic(string text)
    {
        string[] parts = text.Split(',');
        string[] bridges = [.. parts.Where(static p => p.StartsWith("bridge=", StringComparison.Ordinal))];
        string[] macs = [.. parts.Where(static p => p.StartsWith("mac=", StringComparison.Ordinal))];
        if (bridges.Length != 1 || macs.Length > 1 || bridges.Length + macs.Length != parts.Length)
            throw new FabricException(ErrorCodes.InvalidArgument, $"--nic '{Label.Shorten(text)}' is not understood.", "Write bridge=NAME, or bridge=NAME,mac=02:00:00:00:00:01 for an address of your own.");
        return new NicSpec(bridges[0]["bridge=".Length..], macs.Length == 0 ? null : macs[0]["mac=".Length..].ToLowerInvariant());
    }
}

internal static class VmFile
{
    /// <exception cref="FabricException">invalid-argument, naming file and line.</exception>
    public static VmWish Read(string path)
    {
        if (!File.Exists(path))
            throw new FabricException(ErrorCodes.InvalidArgument, $"There is no file '{path}'.");
        return Parse(File.ReadAllText(path), Path.GetFileName(path), Path.GetDirectoryName(Path.GetFullPath(path)) ?? "/");
    }

    public static VmWish Parse(string yaml, string name, string directory)
    {
        var stream = new YamlStream();
        try
        {
            stream.Load(new StringReader(yaml));
        }
        catch (YamlException wrong)
        {
            throw new FabricException(ErrorCodes.InvalidArgument, $"{name}:{wrong.Start.Line}: {wrong.Message}", "The file is not valid YAML.", wrong);
        }

        if (stream.Documents.Count != 1 || stream.Documents[0].RootNode is not YamlMappingNode root)
            throw new FabricException(ErrorCodes.InvalidArgument, $"{name} is not one mapping of keys.", "For example:\n  name: web-1\n  memory: 256M\n  kernel: vmlinuz\n  on: alpha");
        var wish = new VmWish();
        foreach (var (key, value) in root.Children)
            wish = Apply(wish, key, value, name, directory);
        return wish;
    }

    private static VmWish Apply(VmWish wish, YamlNode keyNode, YamlNode value, string name, string directory)
    {
        string key = (keyNode as YamlScalarNode)?.Value ?? "";
        string place = $"{name}:{keyNode.Start.Line}";
        return key switch
        {
            "name" => wish with { Name = Text() },
            "on" or "host" => wish with { On = Text() },
            "memory" => wish with { Memory = Text() },
            "vcpus" => wish with
            {
                Vcpus = int.TryParse(Text(), NumberStyles.None, CultureInfo.InvariantCulture, out int vcpus)
                    ? vcpus
                    : throw new FabricException(ErrorCodes.InvalidArgument, $"{place}: vcpus is not a whole number."),
            },
            "machine" => wish with { Machine = Text() },
            "accel" => wish with { Accel = Text() },
            "kernel" => wish with { Kernel = Path.GetFullPath(Text(), directory) },
            "initrd" => wish with { Initrd = Path.GetFullPath(Text(), directory) },
            "append" => wish with { Append = Text() },
            "workload" => wish with { Workload = Text() },
            "balloon" => wish with { Balloon = Text() },
            "disks" => wish with { Disks = [.. List("PATH or 'PATH,shared'").Select(text => Path.GetFullPath(text, directory))] },
            "nics" => wish with { Nics = List("'bridge=NAME' or 'bridge=NAME,mac=ADDRESS'") },
            _ => throw new FabricException(
                ErrorCodes.InvalidArgument, $"{place}: unknown key '{Label.Shorten(key)}'.",
                "Known: name, on, memory, vcpus, machine, accel, kernel, initrd, append, workload, balloon, disks, nics."),
        };

        string Text() => value is YamlScalarNode { Value: { Length: > 0 } text }
            ? text
            : throw new FabricException(ErrorCodes.InvalidArgument, $"{place}: {key} must be one plain value.");

        IReadOnlyList<string> List(string of) => value is YamlSequenceNode list && list.Children.All(c => c is YamlScalarNode)
            ? [.. list.Children.Select(c => ((YamlScalarNode)c).Value ?? "")]
            : throw new FabricException(ErrorCodes.InvalidArgument, $"{place}: {key} must be a list of {of}.");
    }
}
