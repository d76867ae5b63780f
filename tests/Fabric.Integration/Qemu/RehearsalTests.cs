using Fabric.Daemon.Rehearsals;
using Microsoft.Extensions.Logging.Abstractions;
using Xunit;

namespace Fabric.Integration.Qemu;

/// <summary>The rehearsal with real QEMU processes. The bench's end counts processes and files: whatever is left fails the test.</summary>
[Collection("qemu")]
public sealed class RehearsalTests
{
    [SkippableFact]
    public async Task The_vm_moves_there_and_back_and_nothing_is_left()
    {
        await using var bench = new QemuBench();
        Assert.True(await New(bench).RunAsync(CancellationToken.None));
        AssertNothingLeft(bench);
    }

    [SkippableTheory]
    [InlineData(0)]
    [InlineData(30)]
    [InlineData(60)]
    [InlineData(90)]
    [InlineData(150)]
    [InlineData(300)]
    [InlineData(500)]
    public async Task Cut_off_after_any_time_it_leaves_nothing(int milliseconds)
    {
        await using var bench = new QemuBench();
        using var stop = new CancellationTokenSource(milliseconds);
        await New(bench).RunAsync(stop.Token);
        AssertNothingLeft(bench);
    }

    private static string Folder(QemuBench bench) => Path.Combine(bench.Options.Directory, "r");

    private static Rehearsal New(QemuBench bench) => new(
        new RehearsalOptions(Folder(bench), Path.Combine(bench.Options.MemoryDirectory, "r"), bench.Options), NullLoggerFactory.Instance, TimeProvider.System, new Random(1));

    private static void AssertNothingLeft(QemuBench bench)
    {
        Assert.False(Directory.Exists(Folder(bench)));
        Assert.Empty(Directory.EnumerateFileSystemEntries(bench.Options.MemoryDirectory));
        Assert.DoesNotContain(Directory.EnumerateDirectories("/proc"), p => CommandLine(p).Contains(Folder(bench), StringComparison.Ordinal));
    }

    private static string CommandLine(string process)
    {
        try
        {
            return int.TryParse(Path.GetFileName(process), out _) ? File.ReadAllText(Path.Combine(process, "cmdline")) : "";
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            return "";
        }
    }
}
