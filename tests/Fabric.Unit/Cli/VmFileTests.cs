using Fabric.Cli.Commands;
using Fabric.Core;
using Xunit;

namespace Fabric.Unit.Cli;

public sealed class VmFileTests
{
    private const string Whole = """
        name: db-1
        on: beta
        memory: 1G
        vcpus: 2
        accel: tcg
        kernel: vmlinuz
        initrd: /boot/initrd
        append: quiet
        disks:
          - data.raw,shared
        nics:
          - bridge=br0,mac=52:54:00:AB:cd:01
          - bridge=br1
        balloon: steady,interval=10s
        """;

    [Fact]
    public void A_file_says_all_that_flags_can()
    {
        var (spec, host) = VmFile.Parse(Whole, "vm.yaml", "/srv/vms").Resolve();
        Assert.Equal("beta", host.Value);
        Assert.Equal((ByteSize.Gibi, 2, Accelerator.Tcg, "/srv/vms/vmlinuz", "/boot/initrd"), (spec.MemoryBytes, spec.Vcpus, spec.Accelerator, spec.Kernel, spec.Initrd));
        Assert.Equal(new DiskSpec("/srv/vms/data.raw", true), Assert.Single(spec.Disks));
        Assert.Equal([new NicSpec("br0", "52:54:00:ab:cd:01"), new NicSpec("br1")], spec.Nics);
        Assert.Equal(new BalloonSpec(10_000), spec.Balloon);
    }

    [Theory]
    [InlineData(null, null)]
    [InlineData("off", null)]
    [InlineData("steady", 5000)]
    [InlineData("steady,interval=500ms", 500)]
    [InlineData("steady,interval=1s", 1000)]
    [InlineData("steady,interval=10m", 600_000)]
    public void A_balloon_is_kept_or_not(string? said, int? millis) =>
        Assert.Equal(millis, new VmWish { Name = "a", On = "alpha", Memory = "1G", Kernel = "/k", Balloon = said }.Resolve().Spec.Balloon?.IntervalMs);

    [Theory]
    [InlineData("auto")]
    [InlineData("steady,")]
    [InlineData("steady,interval=")]
    [InlineData("steady,interval=5")]
    [InlineData("steady,interval=-5s")]
    [InlineData("steady,interval=1.5s")]
    [InlineData("steady,interval=5s,interval=5s")]
    [InlineData("steady,interval=499ms")]
    [InlineData("steady,interval=11m")]
    [InlineData("steady,interval=2000000000m")]
    [InlineData("off,interval=5s")]
    public void A_balloon_that_is_not_understood_is_named(string balloon)
    {
        var error = Assert.Throws<FabricException>(() => new VmWish { Name = "a", On = "alpha", Memory = "1G", Kernel = "/k", Balloon = balloon }.Resolve());
        Assert.Equal(ErrorCodes.InvalidArgument, error.Error.Code);
        Assert.NotNull(error.Error.Hint);
    }

    [Fact]
    public void A_flag_wins_over_the_file()
    {
        var (spec, host) = new VmWish { Memory = "2G", On = "alpha", Balloon = "off" }.Over(VmFile.Parse(Whole, "vm.yaml", "/")).Resolve();
        Assert.Equal((2 * ByteSize.Gibi, "alpha", null), (spec.MemoryBytes, host.Value, spec.Balloon));
    }

    [Theory]
    [InlineData("br0")]
    [InlineData("bridge=br0,bridge=br1")]
    [InlineData("mac=02:00:00:00:00:01")]
    [InlineData("bridge=br0,model=e1000")]
    [InlineData("bridge=")]
    [InlineData("bridge=br0,mac=01:00:00:00:00:01")]
    [InlineData("bridge=br0,mac=02:00:00:00:00")]
    [InlineData("bridge=a-name-too-long0")]
    [InlineData("bridge=../br0")]
    public void A_network_card_that_is_not_understood_is_named(string nic)
    {
        var error = Assert.Throws<FabricException>(() => new VmWish { Name = "a", On = "alpha", Memory = "1G", Kernel = "/k", Nics = [nic] }.Resolve());
        Assert.Equal(ErrorCodes.InvalidArgument, error.Error.Code);
        Assert.NotNull(error.Error.Hint);
    }

    [Theory]
    [InlineData("name: a\nnics: br0\n", "vm.yaml:2")]
    [InlineData("name: a\nmemroy: 1G\n", "vm.yaml:2")]
    [InlineData("name: a\nname: b\n", "vm.yaml:2")]
    [InlineData("name: a\nvcpus: many\n", "vm.yaml:2")]
    [InlineData("name: [a]\n", "vm.yaml:1")]
    [InlineData("name: a\ndisks: x\n", "vm.yaml:2")]
    [InlineData("name: 'a\n", "vm.yaml:")]
    public void What_is_wrong_is_named_with_its_line(string yaml, string place)
    {
        var error = Assert.Throws<FabricException>(() => VmFile.Parse(yaml, "vm.yaml", "/"));
        Assert.Equal(ErrorCodes.InvalidArgument, error.Error.Code);
        Assert.StartsWith(place, error.Error.Message, StringComparison.Ordinal);
    }
}
