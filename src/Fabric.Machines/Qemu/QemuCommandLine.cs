using System.Globalization;
using Fabric.Core;

namespace Fabric.Machines.Qemu;

/// <summary>
/// The arguments of a QEMU process: a pure function, the same for the same VM on every host, since a device state loads only into the same
/// machine. Devices get their PCI slots by their order here: append, never reorder.
/// </summary>
internal static class QemuCommandLine
{
    /// <summary>Under TCG everything is emulated and the plain model is the fastest.</summary>
    internal const string TcgModel = "qemu64";

    /// <summary>
    /// Under KVM: x86-64-v2, spelled out over the oldest model, because QEMU 7.2 has no name for it and named Intel models
    /// refuse AMD hosts. Every server since 2010 offers it. Not "host" nor "max": a guest could not move to an older CPU.
    /// </summary>
    internal const string KvmModel = "qemu64,+cx16,+lahf-lm,+popcnt,+sse4.1,+sse4.2,+ssse3";

    /// <summary>Free pages come back by themselves in pieces of 2 MiB; and the guest's driver empties the balloon before its kernel kills (docs/decisions/0010-self-ballooning.md).</summary>
    internal const string Balloon = "virtio-balloon-pci,id=balloon0,free-page-reporting=on,deflate-on-oom=on";

    internal const string BaseAppend = "console=ttyS0 quiet panic=1 tsc=unstable";

    /// <exception cref="FabricException">invalid-argument: the accelerator was not resolved.</exception>
    internal static IReadOnlyList<string> Build(VmSpec spec, MachineBirth birth, MachineFiles files, string machineType, string? cpuModel)
    {
        string accelerator = spec.Accelerator switch
        {
            Accelerator.Kvm => "kvm",
            Accelerator.Tcg => "tcg",
            _ => throw new FabricException(ErrorCodes.InvalidArgument, $"The accelerator of VM '{spec.Name}' is not resolved.", "Resolve auto to kvm or tcg before the machine is made."),
        };
        string megabytes = (spec.MemoryBytes / ByteSize.Mebi).ToString(CultureInfo.InvariantCulture) + "M";
        List<string> arguments =
        [
            "-name", $"guest={spec.Name},debug-threads=on",
            "-nodefaults", "-no-user-config", "-display", "none", "-vga", "none",
            "-object", $"memory-backend-file,id=ram,mem-path={files.Ram},size={megabytes},share=on",
            "-machine", $"{machineType},memory-backend=ram,suppress-vmdesc=on",
            "-accel", accelerator,
            "-cpu", cpuModel ?? (spec.Accelerator == Accelerator.Kvm ? KvmModel : TcgModel),
            "-smp", spec.Vcpus.ToString(CultureInfo.InvariantCulture),
            "-m", megabytes,

            // Without this the stream begins with a section that the loading side does not expect from a bare device state.
            "-global", "migration.send-configuration=off",

            // A machine never runs before the agent says so: not before its memory is found, and not because a device state was loaded.
            "-S",
            "-chardev", $"socket,id=qmp0,path={files.Qmp},server=on,wait=off",
            "-mon", "chardev=qmp0,mode=control",
            "-chardev", $"file,id=console0,path={files.ConsoleLog},append=on",
            "-serial", "chardev:console0",
            "-device", Balloon,
        ];
        AddBoot(arguments, spec);
        for (int i = 0; i < spec.Disks.Count; i++)
            AddDisk(arguments, i, spec.Disks[i], bootable: spec.Kernel is null && i == 0);
        for (int i = 0; i < spec.Nics.Count; i++)
            AddNic(arguments, i, spec.Nics[i].MacOf(spec.Name, i), files.Tap(i));
        if (birth == MachineBirth.Incoming)
            arguments.AddRange(["-incoming", $"unix:{files.Incoming}"]);
        return arguments;
    }

    internal static string DiskNode(int index) => string.Create(CultureInfo.InvariantCulture, $"disk{index}");

    private static void AddBoot(List<string> arguments, VmSpec spec)
    {
        if (spec.Kernel is null)
            return;
        arguments.AddRange(["-kernel", spec.Kernel]);
        if (spec.Initrd is not null)
            arguments.AddRange(["-initrd", spec.Initrd]);
        arguments.AddRange(["-append", spec.Append is null ? BaseAppend : $"{BaseAppend} {spec.Append}"]);
    }

    /// <summary>
    /// File below, filter above, device on top. The filter does nothing; it is there because its child can be exchanged while the guest runs. The page
    /// cache may be used: whoever releases an image flushes it, and whoever takes it drops what it had cached.
    /// </summary>
    private static void AddDisk(List<string> arguments, int index, DiskSpec disk, bool bootable)
    {
        string node = DiskNode(index);
        arguments.AddRange([
            "-object", $"throttle-group,id={node}-group",
            "-blockdev", $"driver=file,node-name={node}-file,filename={disk.Path},locking=on,cache.direct=off,discard=unmap",
            "-blockdev", $"driver=throttle,node-name={node},throttle-group={node}-group,file={node}-file,discard=unmap",
            "-device", $"virtio-blk-pci,id={node}-device,drive={node}" + (bootable ? ",bootindex=0" : ""),
        ]);
    }

    /// <summary>
    /// QEMU makes the tap itself and holds its only descriptor, so the interface ends with the process, however that ends. No vhost: the kernel's thread would write received frames into
    /// guest memory, which neither the dirty log that Fabric keeps nor its traps for missing pages are proved for. No ROM: guests do not boot from the network.
    /// </summary>
    private static void AddNic(List<string> arguments, int index, string mac, string tap)
    {
        string nic = string.Create(CultureInfo.InvariantCulture, $"nic{index}");
        arguments.AddRange([
            "-netdev", $"tap,id={nic},ifname={tap},script=no,downscript=no,vhost=off",
            "-device", $"virtio-net-pci,id={nic}-device,netdev={nic},mac={mac},romfile=",
        ]);
    }
}
