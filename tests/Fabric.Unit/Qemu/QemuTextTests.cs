using System.Buffers.Binary;
using System.Text.Json;
using Fabric.Core;
using Fabric.Machines;
using Fabric.Machines.Qemu;
using Fabric.Native;
using Xunit;

namespace Fabric.Unit.Qemu;

/// <summary>The pure parts: command line, adoption record, the shim's hello, balloon statistics, paths.</summary>
public sealed class QemuTextTests
{
    private static readonly MachineFiles Files = new("/run/f/web-1", "/dev/shm/fabric-web-1", "/run/f/web-1/console.log");

    private static readonly VmSpec Spec = new()
    {
        Name = VmName.Parse("web"),
        Accelerator = Accelerator.Tcg,
        MemoryBytes = 256 * ByteSize.Mebi,
        Vcpus = 2,
        Kernel = "/k",
        Initrd = "/i",
        Append = "quiet=no",
        Disks = [new DiskSpec("/d/a.img", Shared: true), new DiskSpec("/d/b.img", Shared: true)],
    };

    [Fact]
    public void Command_line_of_both_sides_differs_only_in_the_incoming_socket()
    {
        var boot = QemuCommandLine.Build(Spec, MachineBirth.Boot, Files, "pc-q35-7.2", null);
        var incoming = QemuCommandLine.Build(Spec, MachineBirth.Incoming, Files, "pc-q35-7.2", null);
        Assert.Equal(boot, incoming.Take(boot.Count));
        Assert.Equal(["-incoming", "unix:/run/f/web-1/incoming"], incoming.Skip(boot.Count));
        Assert.Contains("-S", boot);
    }

    [Fact]
    public void Command_line_says_what_the_spec_says()
    {
        var line = string.Join(' ', QemuCommandLine.Build(Spec, MachineBirth.Boot, Files, "pc-q35-7.2", null));
        foreach (string part in new[]
        {
            "memory-backend-file,id=ram,mem-path=/dev/shm/fabric-web-1/ram,size=256M,share=on",
            "-machine pc-q35-7.2,memory-backend=ram,suppress-vmdesc=on",
            "-accel tcg -cpu qemu64 -smp 2 -m 256M",
            "-global migration.send-configuration=off",
            "path=/run/f/web-1/console.log,append=on",
            "virtio-balloon-pci,id=balloon0,free-page-reporting=on,deflate-on-oom=on",
            "-kernel /k -initrd /i -append console=ttyS0 quiet panic=1 tsc=unstable quiet=no",
            "driver=file,node-name=disk1-file,filename=/d/b.img,locking=on",
            "driver=throttle,node-name=disk1,throttle-group=disk1-group,file=disk1-file",
            "virtio-blk-pci,id=disk1-device,drive=disk1",
        })
        {
            Assert.Contains(part, line, StringComparison.Ordinal);
        }

        Assert.DoesNotContain("bootindex", line, StringComparison.Ordinal);
        var fromDisk = QemuCommandLine.Build(Spec with { Kernel = null, Initrd = null, Accelerator = Accelerator.Kvm }, MachineBirth.Boot, Files, "m", "cpu");
        Assert.Contains("virtio-blk-pci,id=disk0-device,drive=disk0,bootindex=0", fromDisk);
        Assert.DoesNotContain("-kernel", fromDisk);
        Assert.Contains("cpu", fromDisk);
    }

    [Fact]
    public void Network_cards_come_after_all_else_and_keep_their_addresses()
    {
        var without = QemuCommandLine.Build(Spec, MachineBirth.Boot, Files, "m", null);
        var spec = Spec with { Nics = [new NicSpec("br0"), new NicSpec("br1", "52:54:00:AB:00:01")] };
        var with = QemuCommandLine.Build(spec, MachineBirth.Boot, Files, "m", null);
        Assert.Equal(without, with.Take(without.Count)); // so that every other device keeps its slot
        Assert.Equal(
            [
                "-netdev", "tap,id=nic0,ifname=fab1-0,script=no,downscript=no,vhost=off", "-device", $"virtio-net-pci,id=nic0-device,netdev=nic0,mac={spec.Nics[0].MacOf(spec.Name, 0)},romfile=",
                "-netdev", "tap,id=nic1,ifname=fab1-1,script=no,downscript=no,vhost=off", "-device", "virtio-net-pci,id=nic1-device,netdev=nic1,mac=52:54:00:ab:00:01,romfile=",
            ],
            with.Skip(without.Count));
        var longest = MachineFiles.For(new QemuOptions { Directory = "/run/f" }, Spec.Name, new Random(1)).Tap(Limits.NicsPerVm - 1);
        Assert.InRange(longest.Length, 1, NicSpec.BridgeCharacters);
    }

    [Fact]
    public void An_address_that_is_not_given_follows_from_the_name_and_the_place()
    {
        var nic = new NicSpec("br0");
        Assert.Equal("02:4a:94:2e:d3:66", nic.MacOf(VmName.Parse("web"), 0)); // it must never change: guests know their cards by it
        string[] others = [.. Enumerable.Range(0, Limits.NicsPerVm).Select(i => nic.MacOf(VmName.Parse("web"), i)), nic.MacOf(VmName.Parse("db"), 0)];
        Assert.Equal(others.Length, others.Distinct().Count());
        Assert.All(others, mac => Assert.Null(new NicSpec("br0", mac).Fault()));
    }

    [Fact]
    public void Unresolved_accelerator_is_refused() =>
        Assert.Throws<FabricException>(() => QemuCommandLine.Build(Spec with { Accelerator = Accelerator.Auto }, MachineBirth.Boot, Files, "m", null));

    [Fact]
    public void Longest_name_in_the_longest_allowed_directory_still_makes_a_socket()
    {
        var options = new QemuOptions { Directory = "/" + new string('d', DescriptorListener.MaxPathBytes - MachineFiles.LongestSocketSuffix - 1) };
        Assert.Null(options.Validate());
        var files = MachineFiles.For(options, VmName.Parse(new string('n', 63)), new Random(1));
        foreach (string path in new[] { files.Qmp, files.Shim, files.Incoming, files.Reclaim })
            Assert.InRange(path.Length, 1, DescriptorListener.MaxPathBytes);
        Assert.Equal(DescriptorListener.MaxPathBytes, files.Incoming.Length);
        Assert.NotNull((options with { Directory = options.Directory + "d" }).Validate());
        Assert.NotNull((options with { Directory = "relative" }).Validate());
        Assert.NotNull((options with { Directory = "/with,comma" }).Validate());
    }

    [Fact]
    public void Adoption_record_comes_back_and_foreign_text_is_refused()
    {
        var record = new AdoptionRecord(1, new ProcessIdentity(42, 7, "boot"), Files, 9, UserFaultFeatures.Required, "pc-q35-7.2", Spec);
        string json = record.ToJson();
        var back = AdoptionRecord.Parse(json);
        Assert.Equal(json, back.ToJson());
        Assert.Equal(record.Process, back.Process);
        Assert.Equal(record.Files, back.Files);
        string[] malformed = ["", "null", "[]", "{}", "{\"Version\":1}", json[..^1], json.Replace("\"boot\"", "null", StringComparison.Ordinal)];
        foreach (string text in malformed)
            Assert.Contains(Assert.Throws<FabricException>(() => AdoptionRecord.Parse(text)).Error.Code, new[] { ErrorCodes.Malformed, ErrorCodes.Incompatible });
        string newer = json.Replace("\"Version\":1", "\"Version\":2", StringComparison.Ordinal);
        Assert.Equal(ErrorCodes.Incompatible, Assert.Throws<FabricException>(() => AdoptionRecord.Parse(newer)).Error.Code);
    }

    [Fact]
    public void Hello_of_another_shim_or_kernel_is_refused()
    {
        byte[] hello = new byte[ShimHello.Bytes];
        BinaryPrimitives.WriteUInt32LittleEndian(hello, 0x48534246);
        BinaryPrimitives.WriteInt32LittleEndian(hello.AsSpan(4), 2);
        BinaryPrimitives.WriteInt32LittleEndian(hello.AsSpan(8), 5);
        BinaryPrimitives.WriteInt32LittleEndian(hello.AsSpan(12), 42);
        BinaryPrimitives.WriteInt64LittleEndian(hello.AsSpan(16), (long)UserFaultFeatures.Required | 1);
        BinaryPrimitives.WriteInt32LittleEndian(hello.AsSpan(24), 6);
        Assert.Equal(new ShimHello(5, 42, UserFaultFeatures.Required | (UserFaultFeatures)1, 6), ShimHello.Parse(hello));
        Assert.Throws<FabricException>(() => ShimHello.Parse(hello.AsSpan(1)));
        BinaryPrimitives.WriteInt64LittleEndian(hello.AsSpan(16), 1);
        Assert.Throws<FabricException>(() => ShimHello.Parse(hello));
        hello[0]++;
        Assert.Throws<FabricException>(() => ShimHello.Parse(hello));
    }

    [Theory]
    [InlineData("""{"last-update": 0, "stats": {}}""", true)]
    [InlineData("""{"last-update": "soon", "stats": {}}""", true)]
    [InlineData("""{"last-update": 9223372036854775807, "stats": {}}""", true)]
    [InlineData("[]", true)]
    [InlineData("""{"last-update": 5, "stats": {"stat-free-memory": 4096, "stat-swap-in": 18446744073709551615, "stat-major-faults": -1, "stat-total-memory": "x"}}""", false)]
    public void Balloon_statistics_are_null_where_the_guest_says_nothing(string json, bool nothing)
    {
        var statistics = QemuBalloon.Parse(JsonSerializer.Deserialize<JsonElement>(json));
        Assert.Equal(nothing, statistics is null);
        if (statistics is not null)
            Assert.Equal(new BalloonStatistics(4096, null, null, null, null, null, DateTimeOffset.FromUnixTimeSeconds(5)), statistics);
    }

    [Theory]
    [InlineData("""{"guest-features": {"dev-features": ["VIRTIO_BALLOON_F_STATS_VQ: x", "VIRTIO_BALLOON_F_DEFLATE_ON_OOM: Deflate balloon when guest OOM"]}}""", true)]
    [InlineData("""{"guest-features": {"dev-features": []}, "host-features": {"dev-features": ["VIRTIO_BALLOON_F_DEFLATE_ON_OOM: offered, not accepted"]}}""", false)]
    [InlineData("""{"guest-features": {"dev-features": [1, null, {}]}}""", false)]
    [InlineData("""{"guest-features": {"dev-features": "VIRTIO_BALLOON_F_DEFLATE_ON_OOM"}}""", false)]
    [InlineData("[]", false)]
    public void Guest_has_agreed_to_empty_the_balloon_only_where_qemu_says_so(string json, bool agreed) =>
        Assert.Equal(agreed, QemuBalloon.Agreed(JsonSerializer.Deserialize<JsonElement>(json)));

    [Fact]
    public void Control_characters_of_others_words_do_not_reach_a_terminal() =>
        Assert.Equal("a?[31m; b", MachineFiles.Printable("a\u001b[31m\n\n b \n"));

    [Theory]
    [InlineData("lock:\t1: OFDLCK  ADVISORY  READ -1 08:01:1234 201 201", true)]
    [InlineData("lock:\t2: OFDLCK  ADVISORY  READ -1 08:01:1234 200 203", true)]
    [InlineData("lock:\t2: POSIX  ADVISORY  WRITE 42 08:01:1234 0 EOF", true)]
    [InlineData("lock:\t1: OFDLCK  ADVISORY  READ -1 08:01:1234 100 101", false)]
    [InlineData("lock:\t1: OFDLCK  ADVISORY  READ -1 08:01:1234 x 201", false)]
    [InlineData("lock:", false)]
    [InlineData("pos:\t201 201 201", false)]
    public void Write_lock_is_recognised_in_the_kernels_words(string line, bool held) => Assert.Equal(held, DiskLocks.LocksWriting(line));
}
