using Fabric.Core;
using Fabric.Migration;

namespace Fabric.Daemon.Rehearsals;

/// <summary>One move between two rehearsal hosts, decided by the same <see cref="Brain"/> as a real one; nothing is journaled, since nobody takes it over.</summary>
internal sealed class RehearsalMove(MigrationPlan plan, RehearsalHost source, RehearsalHost destination, TimeProvider time)
{
    private static readonly TimeSpan Pause = TimeSpan.FromMilliseconds(5);

    private readonly Dictionary<MigrationStep, StepAnswer> _answers = [];
    private MigrationState _state = Applied(Unborn.Instance, new MigrationPlanned(plan.PlannedAt, plan));

    /// <exception cref="FabricException">conflict: it ended otherwise than completed.</exception>
    public async Task RunAsync(CancellationToken cancellation)
    {
        while (_state is not TerminalState)
        {
            var seen = new Observation(time.GetUtcNow(), new Epoch(1), await ViewAsync(source, cancellation), await ViewAsync(destination, cancellation), _answers);
            var decision = Brain.Decide(_state, seen, MigrationTimings.Default);
            foreach (var happened in decision.Events)
                _state = Applied(_state, happened);
            foreach (var order in decision.Orders)
            {
                var host = order.Host == source.Name ? source : destination;
                var result = await host.Agent.ExecuteAsync(order.Command, cancellation);
                _answers[order.Step] = new StepAnswer(order.Attempt, result.Error, time.GetUtcNow());
            }

            if (decision is { Events.Count: 0, Orders.Count: 0 })
                await Task.Delay(Pause, time, cancellation);
        }

        if (_state is not Completed)
            throw new FabricException(ErrorCodes.Conflict, $"The rehearsal's {plan.Options.Mode} move ended as {_state.Name}.");
    }

    private async Task<HostView> ViewAsync(RehearsalHost host, CancellationToken cancellation)
    {
        var facts = await host.Agent.FactsAsync(-1, TimeSpan.Zero, cancellation);
        return new HostView(facts.Incarnation, facts.Data, facts.Vms.FirstOrDefault(v => v.Name == plan.Vm), null);
    }

    private static MigrationState Applied(MigrationState state, MigrationEvent happened)
    {
        var transition = Transitions.Apply(state, happened);
        return transition.State ?? throw new FabricException(transition.Error!);
    }
}
