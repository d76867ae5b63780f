using Fabric.Host;
using Fabric.Migration;

namespace Fabric.Daemon.Rehearsals;

/// <summary>
/// When the rehearsal runs: once in an agent's life, as soon as no VM here is in a migration. An agent that took VMs over from an earlier life has
/// better things to do first.
/// </summary>
internal sealed class RehearsalRun : IAsyncDisposable
{
    private static readonly TimeSpan Look = TimeSpan.FromSeconds(5);
    private const int LooksMost = 100;

    private readonly CancellationTokenSource _stop = new();
    private readonly Task _running;

    public RehearsalRun(Rehearsal rehearsal, HostAgent agent, TimeProvider time) =>
        _running = Task.Run(() => RunAsync(rehearsal, agent, time, _stop.Token));

    public async ValueTask DisposeAsync()
    {
        await _stop.CancelAsync();
        await _running.ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
        _stop.Dispose();
    }

    private static async Task RunAsync(Rehearsal rehearsal, HostAgent agent, TimeProvider time, CancellationToken stop)
    {
        // An agent that has started tells of every VM that it found.
        bool waits = (await agent.FactsAsync(-1, TimeSpan.Zero, stop)).Vms.Count > 0;
        for (int look = 0; waits && look < LooksMost; look++)
        {
            await Task.Delay(Look, time, stop);
            var facts = await agent.FactsAsync(-1, TimeSpan.Zero, stop);
            waits = facts.Vms.Any(IsMoving);
        }

        if (!waits)
            await rehearsal.RunAsync(stop);
    }

    private static bool IsMoving(VmFact vm) =>
        vm.Outgoing is { Phase: SourcePhase.Pushing or SourcePhase.Converged or SourcePhase.HandingOver or SourcePhase.TokenSent or SourcePhase.HandedOver }
        || vm.Incoming is { Phase: not (DestinationPhase.Complete or DestinationPhase.Refused or DestinationPhase.Lost) };
}
