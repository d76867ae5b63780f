using System.Text.Json;
using Fabric.Core;
using Fabric.Native;

namespace Fabric.Machines.Qemu;

/// <summary>
/// What a restarted agent needs to take hold of a running QEMU. Fixed when the machine is made; everything that changes is asked of QEMU and the kernel.
/// </summary>
/// <param name="FaultDescriptor">Number of the userfaultfd inside the QEMU process.</param>
/// <param name="FaultFeatures">What the kernel granted it.</param>
/// <param name="Unmap">Number, inside the QEMU process, of the agent's end of the socket pair to the shim's thread; null for a machine whose shim had none.</param>
internal sealed record AdoptionRecord(
    int Version, ProcessIdentity Process, MachineFiles Files, int FaultDescriptor, UserFaultFeatures FaultFeatures, string MachineType, VmSpec Spec, int? Unmap = null)
{
    internal const int CurrentVersion = 1;

    internal string ToJson() => JsonSerializer.Serialize(this);

    /// <exception cref="FabricException">malformed: it is not such a record; incompatible: of a version that this agent does not know.</exception>
    internal static AdoptionRecord Parse(string json)
    {
        AdoptionRecord? record;
        try
        {
            record = JsonSerializer.Deserialize<AdoptionRecord>(json);
        }
        catch (JsonException error)
        {
            throw new FabricException(ErrorCodes.Malformed, $"This is not an adoption record: {error.Message}", cause: error);
        }

        if (record is { Version: not CurrentVersion })
            throw new FabricException(ErrorCodes.Incompatible, $"The adoption record has version {record.Version}; this agent knows {CurrentVersion}.", "Run the agent that made it.");
        if (record is not { Process.BootId: not null, Files: { Directory: not null, MemoryDirectory: not null, ConsoleLog: not null }, Spec: not null })
            throw new FabricException(ErrorCodes.Malformed, "The adoption record lacks the process, its files or the VM.");
        return record;
    }
}
