using Fabric.Core;

namespace Fabric.Machines.Synthetic;

/// <summary>Who runs the guests of a <see cref="SyntheticMachineFactory"/>.</summary>
public enum SyntheticDrive
{
    /// <summary>A thread per guest, at the workload's rate.</summary>
    Live,

    /// <summary>The caller, by <see cref="SyntheticMachine.Step"/>: for a simulation on one thread.</summary>
    Manual,
}

/// <summary>Makes synthetic machines. Their console logs are in <paramref name="folder"/>, which must exist.</summary>
public sealed class SyntheticMachineFactory(string folder, TimeProvider time, SyntheticDrive drive = SyntheticDrive.Live) : IMachineFactory
{
    public MachineKind Kind => MachineKind.Synthetic;

    public ValueTask<IMachine> CreateAsync(VmSpec spec, MachineBirth birth, CancellationToken cancellation)
    {
        ArgumentNullException.ThrowIfNull(spec);
        cancellation.ThrowIfCancellationRequested();
        if (spec.Validate() is { } broken)
            throw new FabricException(broken);
        try
        {
            string log = Path.Combine(folder, $"{spec.Name}.console.log");
            return ValueTask.FromResult<IMachine>(new SyntheticMachine(spec, birth, log, time, drive == SyntheticDrive.Live));
        }
        catch (IOException failure)
        {
            throw new FabricException(ErrorCodes.MachineFailed, $"VM '{spec.Name}' has no console log: {failure.Message}", "Check the agent's folder.", failure);
        }
    }

    /// <summary>Always null: a synthetic machine lives inside its agent and ends with it, so there is nothing to take hold of.</summary>
    public ValueTask<IMachine?> AdoptAsync(string adoptionRecord, CancellationToken cancellation) => ValueTask.FromResult<IMachine?>(null);
}
