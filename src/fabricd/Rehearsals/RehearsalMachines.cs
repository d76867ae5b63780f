using Fabric.Core;
using Fabric.Machines;

namespace Fabric.Daemon.Rehearsals;

/// <summary>
/// The machines of one rehearsal host. It knows those that are still being made: an agent that is stopped does not wait for them, and a sweep in
/// that moment would find nothing to end.
/// </summary>
internal sealed class RehearsalMachines(IMachineFactory inner) : IMachineFactory
{
    private readonly Lock _gate = new();
    private readonly List<Task<IMachine>> _made = [];
    private bool _ended; // under _gate: what an agent that has stopped had still to begin is not begun

    public MachineKind Kind => inner.Kind;

    public async ValueTask<IMachine> CreateAsync(VmSpec spec, MachineBirth birth, CancellationToken cancellation)
    {
        Task<IMachine> making;
        lock (_gate)
        {
            if (_ended)
                throw new FabricException(ErrorCodes.Cancelled, "The rehearsal is over.");
            making = Task.Run(() => inner.CreateAsync(spec, birth, cancellation).AsTask(), cancellation);
            _made.Add(making);
        }

        return await making;
    }

    public ValueTask<IMachine?> AdoptAsync(string adoptionRecord, CancellationToken cancellation) => inner.AdoptAsync(adoptionRecord, cancellation);

    public ValueTask SweepAsync(IReadOnlyCollection<string> adoptionRecords, CancellationToken cancellation) => inner.SweepAsync(adoptionRecords, cancellation);

    /// <summary>When the agent has stopped: ends every machine, also one that was being made.</summary>
    public async Task EndAsync(CancellationToken cancellation)
    {
        Task<IMachine>[] made;
        lock (_gate)
        {
            _ended = true;
            made = [.. _made];
        }

        try
        {
            foreach (var making in made)
            {
                await Task.WhenAny(making).WaitAsync(cancellation);
                if (making.IsCompletedSuccessfully)
                    await (await making).DisposeAsync();
            }

            await inner.SweepAsync([], cancellation);
        }
        finally
        {
            (inner as IDisposable)?.Dispose();
        }
    }
}
