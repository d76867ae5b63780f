using System.Runtime.InteropServices;
using System.Text;
using Fabric.Core;
using Fabric.Native;
using Xunit;

namespace Fabric.Unit.Native;

public sealed class FileTests : IDisposable
{
    private readonly string _directory = Directory.CreateTempSubdirectory("fabric-unit-").FullName;

    public void Dispose() => Directory.Delete(_directory, recursive: true);

    [Fact]
    public void What_is_read_of_a_file_is_there_or_the_read_fails()
    {
        using var file = SparseFile.Create(Path.Combine(_directory, "ram"), 4L * VmSpec.PageSize);
        using var memory = MappedMemory.Anonymous(4L * VmSpec.PageSize);
        RandomAccess.Write(file.Handle, [5], VmSpec.PageSize);
        PageBytes.Fill(memory.Address, 4L * VmSpec.PageSize, 9);
        PageBytes.ReadFile(file.Handle, VmSpec.PageSize, memory.Address, VmSpec.PageSize);
        Assert.Equal((5, 0, 9), (Marshal.ReadByte(memory.Address), Marshal.ReadByte(memory.Address + 1), Marshal.ReadByte(memory.Address + VmSpec.PageSize)));
        PageBytes.ReadFile(file.Handle, 2L * VmSpec.PageSize, memory.Address, 2L * VmSpec.PageSize);
        Assert.True(PageBytes.IsZero(memory.Address, 2 * VmSpec.PageSize));
        var error = Assert.Throws<FabricException>(() => PageBytes.ReadFile(file.Handle, 3L * VmSpec.PageSize, memory.Address, 2L * VmSpec.PageSize));
        Assert.Contains("ends 4096 bytes before", error.Message, StringComparison.Ordinal);
    }

    [Fact]
    public void Presence_is_what_was_written_and_not_punched()
    {
        // In tmpfs, as guests' RAM: other file systems may report whole extents.
        string path = Path.Combine("/dev/shm", $"fabric-unit-{Guid.NewGuid():N}");
        try
        {
            using var file = SparseFile.Create(path, 100 * VmSpec.PageSize);
            var present = new PageBitmap(100);
            present.SetAll();
            file.ReadPresence(present);
            Assert.True(present.IsEmpty);
            foreach (long page in new long[] { 0, 7, 8, 9, 99 })
                RandomAccess.Write(file.Handle, [1], page * VmSpec.PageSize);
            file.PunchHole(8 * VmSpec.PageSize, VmSpec.PageSize);
            file.ReadPresence(present);
            Assert.Equal([0, 7, 9, 99], Enumerable.Range(0, 100).Where(p => present[p]));
            Assert.Equal(4, file.CountPresent());
            present.SetAll();
            present.ClearRun(new PageRun(7, 1));
            using var mapping = MappedMemory.MapFile(file.Handle, file.Length);
            file.KeepPresent(present, mapping.Address);
            Assert.Equal([0, 9, 99], Enumerable.Range(0, 100).Where(p => present[p]));
            file.PunchHole(0, 100 * VmSpec.PageSize);
            Assert.Equal(0, file.CountPresent());
            file.KeepPresent(present, mapping.Address);
            Assert.True(present.IsEmpty);
            Assert.Equal(UnixFileMode.UserRead | UnixFileMode.UserWrite, OperatingSystem.IsWindows() ? default : File.GetUnixFileMode(path));
            var again = Assert.Throws<FabricException>(() => SparseFile.Create(path, 1));
            Assert.Contains("errno 17", again.Message, StringComparison.Ordinal);
        }
        finally
        {
            File.Delete(path);
        }
    }

    [Fact]
    public void Appended_bytes_are_at_the_end_in_order()
    {
        string path = Path.Combine(_directory, "ledger");
        using (var file = FileSync.Open(path))
        {
            file.Append("one\n"u8);
            file.Append([]);
            file.Sync();
        }

        using (var file = FileSync.Open(path))
        {
            file.Append("two\n"u8);
            file.Sync();
        }

        Assert.Equal("one\ntwo\n", File.ReadAllText(path, Encoding.UTF8));
    }

    [Fact]
    public void Full_disk_is_a_store_error()
    {
        using var file = FileSync.Open("/dev/full");
        var error = Assert.Throws<FabricException>(() => file.Append("x"u8));
        Assert.Equal(ErrorCodes.StoreFailed, error.Error.Code);
    }

    [Fact]
    public void Signal_is_set_until_it_is_cleared()
    {
        using var signal = new EventSignal();
        Assert.False(signal.Clear());
        signal.Set();
        signal.Set();
        Assert.True(Descriptors.Readable(signal, 0));
        Assert.True(signal.Clear());
        Assert.False(Descriptors.Readable(signal, 0));
    }

    [Fact]
    public void Preflight_names_each_thing_once_and_a_remedy_for_each_failure()
    {
        var checks = Preflight.Run(new PreflightOptions { QemuBinary = "/nonexistent/qemu", ShimPath = "/nonexistent/shim", MemoryDirectory = "/proc" });
        Assert.Equal(checks.Count, checks.Select(c => c.Name).Distinct().Count());
        foreach (var check in checks)
            Assert.Equal(check.Ok, check.Remedy is null);
        foreach (string name in new[] { "qemu", "shim", "memory-directory" })
            Assert.False(checks.Single(c => c.Name == name).Ok);
        Assert.Contains("qemu", Preflight.WhyNot(checks), StringComparison.Ordinal);
    }
}
