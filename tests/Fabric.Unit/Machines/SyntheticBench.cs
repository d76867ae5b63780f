using Fabric.Core;
using Fabric.Machines;
using Fabric.Machines.Synthetic;
using Fabric.Native;

namespace Fabric.Unit.Machines;

/// <summary>A folder for consoles, machines of one spec, and the two ways to move their memory.</summary>
internal sealed class SyntheticBench : IDisposable
{
    private readonly string _folder = Directory.CreateTempSubdirectory("fabric-synthetic-").FullName;

    internal static VmSpec Spec(string workload, long megabytes = 4) => new()
    {
        Name = VmName.Parse("guest"),
        Machine = MachineKind.Synthetic,
        MemoryBytes = megabytes * ByteSize.Mebi,
        Workload = workload,
    };

    internal async Task<SyntheticMachine> CreateAsync(VmSpec spec, MachineBirth birth, SyntheticDrive drive = SyntheticDrive.Manual)
    {
        // Two hosts, two folders.
        var folder = Directory.CreateDirectory(Path.Combine(_folder, $"{birth}-{Guid.NewGuid():N}")).FullName;
        return (SyntheticMachine)await new SyntheticMachineFactory(folder, TimeProvider.System, drive).CreateAsync(spec, birth, default);
    }

    public void Dispose() => Directory.Delete(_folder, recursive: true);

    internal static nint PageOf(IGuestMemory memory, long page) => memory.Address + (nint)(page * memory.PageSize);

    /// <summary>Copies the marked pages straight into the destination's mapping, as the push phase does.</summary>
    internal static void CopyDirectly(IGuestMemory source, IGuestMemory destination, PageBitmap pages)
    {
        for (long page = pages.NextSet(0); page >= 0; page = pages.NextSet(page + 1))
            GuestBytes.Copy(PageOf(source, page), PageOf(destination, page), source.PageSize);
    }

    internal static async Task HandOverAsync(SyntheticMachine source, SyntheticMachine destination)
    {
        byte[] state = await source.SaveDeviceStateAsync(releaseDisks: true, default);
        await destination.LoadDeviceStateAsync(state, default);
    }

    /// <summary>Steps in the low bytes of the pages, in order: the byte oracle allows one at most.</summary>
    internal static int Steps(IGuestMemory memory)
    {
        int steps = 0;
        for (long page = 1; page < memory.PageCount; page++)
        {
            if ((byte)GuestBytes.Read(PageOf(memory, page)) != (byte)GuestBytes.Read(PageOf(memory, page - 1)))
                steps++;
        }

        return steps;
    }
}
