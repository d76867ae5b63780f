using System.Diagnostics;
using System.Runtime.InteropServices;
using Fabric.Core;
using Fabric.Integration.Guests;
using Fabric.Machines;
using Fabric.Machines.Qemu;
using Fabric.Native;
using Microsoft.Extensions.Logging.Abstractions;
using Xunit;

namespace Fabric.Integration.Qemu;

/// <summary>
/// A host for real QEMU machines: one temporary directory, one factory, all machines made by it. Its end kills what still runs and then
/// checks that nothing is left: no process, no file.
/// </summary>
internal sealed class QemuBench : IAsyncDisposable
{
    internal const long MemoryBytes = 64 * ByteSize.Mebi;
    internal const int RangeEnd = 0x0200_0000;
    internal const int Pages = (RangeEnd - BootBlock.RangeStart) / BootBlock.PageSize;

    internal static readonly TimeSpan Patience = TimeSpan.FromSeconds(60);

    private readonly List<IMachine> _machines = [];
    private readonly List<int> _processes = [];
    private readonly List<string> _looseFiles = [];
    private readonly string _root = Directory.CreateTempSubdirectory("fq-").FullName;
    private int _disks;

    internal QemuBench(Func<QemuOptions, QemuOptions>? change = null)
    {
        Skip.IfNot(Unavailable is null, Unavailable);
        Options = new QemuOptions { Directory = Path.Combine(_root, "m"), MemoryDirectory = Path.Combine("/dev/shm", Path.GetFileName(_root)) };
        Options = change?.Invoke(Options) ?? Options;
        Directory.CreateDirectory(Options.Directory);
        Directory.CreateDirectory(Options.MemoryDirectory);
        Factory = NewFactory();
    }

    /// <summary>Why real QEMU machines cannot be run here, or null.</summary>
    private static string? Unavailable { get; } = Preflight.WhyNot(Preflight.Run(new PreflightOptions()));

    internal QemuOptions Options { get; }

    internal QemuMachineFactory Factory { get; }

    internal QemuMachineFactory NewFactory() => new(Options, TimeProvider.System, new Random(), NullLogger<QemuMachineFactory>.Instance);

    internal static void RequireKvm(Accelerator accelerator)
    {
        if (accelerator == Accelerator.Kvm)
            Skip.IfNot(Preflight.Run(new PreflightOptions()).Single(c => c.Name == "kvm").Ok, "/dev/kvm cannot be used");
    }

    /// <param name="diskInMemory">Puts the image into tmpfs: releasing and taking an image flushes it, and a slow disk would be all that a measurement sees.</param>
    internal VmSpec BootBlockVm(string name, Accelerator accelerator, bool diskInMemory = false)
    {
        string disk = diskInMemory ? Options.MemoryDirectory + $"-disk{_disks++}.img" : Path.Combine(_root, $"disk{_disks++}.img");
        if (diskInMemory)
            _looseFiles.Add(disk);
        File.WriteAllBytes(disk, BootBlock.Image(RangeEnd));
        return new VmSpec { Name = VmName.Parse(name), Accelerator = accelerator, MemoryBytes = MemoryBytes, Disks = [new DiskSpec(disk, Shared: true)] };
    }

    internal async Task<IMachine> CreateAsync(VmSpec spec, MachineBirth birth)
    {
        var machine = await Factory.CreateAsync(spec, birth, CancellationToken.None);
        Keep(machine);
        return machine;
    }

    internal void Keep(IMachine machine)
    {
        _machines.Add(machine);
        _processes.Add(machine.ProcessId!.Value);
    }

    /// <summary>Boots the boot block and returns once it has made a whole pass.</summary>
    internal async Task<IMachine> BootAsync(VmSpec spec)
    {
        var machine = await CreateAsync(spec, MachineBirth.Boot);
        await EventuallyAsync(() => new FileInfo(machine.ConsoleLog) is { Exists: true, Length: > 1 }, "the guest finished a pass");
        return machine;
    }

    /// <summary>Waits for something that only another process can bring about, with a deadline.</summary>
    internal static async Task EventuallyAsync(Func<bool> condition, string what)
    {
        var clock = Stopwatch.StartNew();
        while (!condition())
        {
            Assert.True(clock.Elapsed < Patience, $"Not within {Patience.TotalSeconds} s: {what}.");
            await Task.Delay(TimeSpan.FromMilliseconds(2), TimeProvider.System);
        }
    }

    internal static byte ByteOf(IMachine machine, long page) => Marshal.ReadByte(machine.Memory.Address, checked((int)(page * BootBlock.PageSize)));

    /// <summary>The oracle's bytes. Touches every page of the range: all must be present, or belong to nobody.</summary>
    internal static byte[] Values(IMachine machine)
    {
        byte[] values = new byte[Pages];
        for (int i = 0; i < Pages; i++)
            values[i] = ByteOf(machine, BootBlock.FirstPage + i);
        return values;
    }

    /// <summary>Waits until the guest has gone on counting since now.</summary>
    internal static async Task ProgressAsync(IMachine machine)
    {
        long before = new FileInfo(machine.ConsoleLog).Length;
        await EventuallyAsync(() => new FileInfo(machine.ConsoleLog).Length > before + 1, "the guest made two more passes");
    }

    /// <summary>Copies pages from one machine's mapping straight into the other's, as a push does before the guest runs there.</summary>
    internal static long Push(IMachine from, IMachine to, PageBitmap pages)
    {
        byte[] buffer = new byte[256 * BootBlock.PageSize];
        long pushed = 0;
        for (long at = 0; pages.TryNextRun(at, 256, out var run); at = run.End)
        {
            int offset = (int)(run.First * BootBlock.PageSize);
            Marshal.Copy(from.Memory.Address + offset, buffer, 0, run.Count * BootBlock.PageSize);
            Marshal.Copy(buffer, 0, to.Memory.Address + offset, run.Count * BootBlock.PageSize);
            pushed += run.Count;
        }

        return pushed;
    }

    public async ValueTask DisposeAsync()
    {
        foreach (var machine in _machines)
        {
            await KillQuietlyAsync(machine);
            await machine.DisposeAsync();
        }

        Factory.Dispose();
        string[] left = [.. Directory.EnumerateFileSystemEntries(Options.Directory), .. Directory.EnumerateFileSystemEntries(Options.MemoryDirectory)];
        int[] alive = [.. _processes.Where(p => ProcessIdentity.Of(p) is not null)];
        Directory.Delete(_root, recursive: true);
        Directory.Delete(Options.MemoryDirectory, recursive: true);
        _looseFiles.ForEach(File.Delete);
        Assert.Empty(left);
        Assert.Empty(alive);
    }

    private static async Task KillQuietlyAsync(IMachine machine)
    {
        try
        {
            await machine.KillAsync(CancellationToken.None);
        }
        catch (ObjectDisposedException)
        {
            // A test let go of it and adopted it again: the other object kills it.
        }
    }
}
