using System.Text.Json.Serialization;

namespace Fabric.Core;

[JsonConverter(typeof(JsonStringEnumConverter<MachineKind>))]
public enum MachineKind
{
    [JsonStringEnumMemberName("qemu")] Qemu,
    [JsonStringEnumMemberName("synthetic")] Synthetic,
}

[JsonConverter(typeof(JsonStringEnumConverter<Accelerator>))]
public enum Accelerator
{
    [JsonStringEnumMemberName("auto")] Auto,
    [JsonStringEnumMemberName("kvm")] Kvm,
    [JsonStringEnumMemberName("tcg")] Tcg,
}

/// <summary>A raw disk image. <paramref name="Shared"/>: the same path reaches the same storage from every host.</summary>
public sealed record DiskSpec(string Path, bool Shared);

/// <summary>
/// What a VM is, apart from where it runs. The same text starts it at its first host and as the incoming machine at
/// every later one; <see cref="Accelerator.Auto"/> is resolved once, at creation, and then travels with the VM.
/// </summary>
/// <param name="Vcpus">
/// 1 to 255. A parameter, since the generated JSON reader keeps the defaults of parameters but not those of initialized properties.
/// </param>
public sealed record VmSpec(int Vcpus = 1)
{
    public required VmName Name { get; init; }

    public MachineKind Machine { get; init; } = MachineKind.Qemu;

    public Accelerator Accelerator { get; init; } = Accelerator.Auto;

    /// <summary>Guest RAM in bytes: a whole number of MiB, 1 MiB to 4 TiB.</summary>
    public required long MemoryBytes { get; init; }

    /// <summary>Absolute path of a kernel for direct boot, or null to boot from the first disk.</summary>
    public string? Kernel { get; init; }

    public string? Initrd { get; init; }

    /// <summary>Kernel command line, appended to Fabric's own console setting.</summary>
    public string? Append { get; init; }

    // The generated JSON reader sets null where the field is left out.
    public IReadOnlyList<DiskSpec> Disks { get; init => field = value ?? []; } = [];

    /// <summary>Network cards, in the order in which the guest sees them; only QEMU machines have any.</summary>
    public IReadOnlyList<NicSpec> Nics { get; init => field = value ?? []; } = [];

    /// <summary>How its free memory is kept in its balloon; null: it is not. Only QEMU machines have a balloon.</summary>
    public BalloonSpec? Balloon { get; init; }

    /// <summary>The synthetic guest's workload (name and seed, for example <c>write-heavy:7</c>); null for QEMU.</summary>
    public string? Workload { get; init; }

    public const int PageSize = 4096;

    [JsonIgnore]
    public long PageCount => MemoryBytes / PageSize;

    /// <summary>The same text: disks and network cards are compared one by one, which a record would not do for a list.</summary>
    public bool Equals(VmSpec? other) =>
        other is not null
        && (Name, Machine, Accelerator, MemoryBytes, Vcpus) == (other.Name, other.Machine, other.Accelerator, other.MemoryBytes, other.Vcpus)
        && (Kernel, Initrd, Append, Workload, Balloon) == (other.Kernel, other.Initrd, other.Append, other.Workload, other.Balloon)
        && Disks.SequenceEqual(other.Disks)
        && Nics.SequenceEqual(other.Nics);

    public override int GetHashCode() => HashCode.Combine(Name, MemoryBytes, Vcpus, Disks.Count, Nics.Count);

    /// <summary>The first rule that the spec breaks, or null. Paths are checked for form only: whether they exist is the host's to say.</summary>
    public FabricError? Validate()
    {
        if (MemoryBytes < ByteSize.Mebi || MemoryBytes > 4 * ByteSize.Tebi || MemoryBytes % ByteSize.Mebi != 0)
            return Invalid($"memory of {MemoryBytes} bytes", "Memory is a whole number of MiB, 1M to 4T.");
        if (Vcpus is < 1 or > 255)
            return Invalid($"{Vcpus} vcpus", "A VM has 1 to 255 vcpus.");
        if (Initrd is not null && Kernel is null)
            return Invalid("an initrd without a kernel", "Give --kernel too.");
        if (Machine == MachineKind.Qemu && Kernel is null && Disks.Count == 0)
            return Invalid("nothing to boot from", "Give --kernel and --initrd, or --disk.");
        if (Disks.Count > Limits.DisksPerVm)
            return Invalid($"{Disks.Count} disks", $"A VM has at most {Limits.DisksPerVm} disks.");
        if (Nics.Count > Limits.NicsPerVm)
            return Invalid($"{Nics.Count} network cards", $"A VM has at most {Limits.NicsPerVm} network cards.");
        if (Machine != MachineKind.Qemu && Nics.Count > 0)
            return Invalid("a network card", "Only QEMU machines have network cards.");
        foreach (var nic in Nics)
        {
            if (nic.Fault() is { } fault)
                return Invalid(fault.What, fault.Hint);
        }

        if (Machine != MachineKind.Qemu && Balloon is not null)
            return Invalid("a balloon", "Only QEMU machines have a balloon.");
        if (Balloon?.Fault() is { } wrong)
            return Invalid(wrong.What, wrong.Hint);
        if (Append is { Length: > 2048 } || Workload is { Length: > 256 })
            return Invalid("an over-long command line or workload", "Append has at most 2048 characters, workload 256.");
        foreach (string? path in Disks.Select(d => d.Path).Append(Kernel).Append(Initrd))
        {
            // QEMU's option parser doubles commas; a path with a comma or control character is refused rather than quoted.
            if (path is not null && (!Path.IsPathFullyQualified(path) || path.Length > 4096 || path.Contains(',') || path.Any(char.IsControl)))
                return Invalid($"path '{Label.Shorten(path)}'", "Give an absolute path without commas or control characters.");
        }

        return null;

        FabricError Invalid(string what, string hint) => new(ErrorCodes.InvalidArgument, $"VM '{Name}' has {what}.", hint);
    }
}
