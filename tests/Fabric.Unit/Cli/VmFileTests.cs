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
        """;

    [Fact]
    public void A_file_says_all_that_flags_can()
    {
        var (spec, host) = VmFile.Parse(Whole, "vm.yaml", "/srv/vms").Resolve();
        Assert.Equal("beta", host.Value);
        Assert.Equal((ByteSize.Gibi, 2, Accelerator.Tcg, "/srv/vms/vmlinuz", "/boot/initrd"), (spec.MemoryBytes, spec.Vcpus, spec.Accelerator, spec.Kernel, spec.Initrd));
        Assert.Equal(new DiskSpec("/srv/vms/data.raw", true), Assert.Single(spec.Disks));
    }

    [Fact]
    public void A_flag_wins_over_the_file()
    {
        var (spec, host) = new VmWish { Memory = "2G", On = "alpha" }.Over(VmFile.Parse(Whole, "vm.yaml", "/")).Resolve();
        Assert.Equal((2 * ByteSize.Gibi, "alpha"), (spec.MemoryBytes, host.Value));
    }

    [Theory]
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
