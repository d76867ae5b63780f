using Fabric.Native;

namespace Fabric.Machines.Qemu;

/// <summary>What it takes to see which pages a guest touches.</summary>
/// <param name="Unmapper">Takes pages out of QEMU's page table. Null: nothing can be watched.</param>
/// <param name="Translations">Makes code be read again. Null: the processor reads it by itself (KVM).</param>
internal sealed record TouchWatch(PageUnmapper? Unmapper, GuestTranslations? Translations) : IDisposable
{
    public void Dispose()
    {
        Translations?.Dispose();
        Unmapper?.Dispose();
    }
}
