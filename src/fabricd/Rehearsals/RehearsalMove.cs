using System.Text.Json;
using System.Text.Json.Serialization.Metadata;
using Fabric.Core;
using Fabric.Migration;
using Fabric.Wire.Agent;

namespace Fabric.Daemon.Rehearsals;

/// <summary>
/// One move between two rehearsal hosts, decided by the same <see cref="Brain"/> as a real one; nothing is journaled, since nobody takes it over. Commands and facts are written and read as for
/// a control node: what does that is compiled for some 70 ms at its first use, which would be the moment at which a guest has just begun to run.
/// </summary>
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
                var result = Carried(await host.Agent.ExecuteAsync(Carried(order.Command, AgentJson.Default.AgentCommand), cancellation), AgentJson.Default.CommandResult);
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
        var facts = Carried(await host.Agent.FactsAsync(-1, TimeSpan.Zero, cancellation), AgentJson.Default.HostFacts);
        return new HostView(facts.Incarnation, facts.Data, facts.Vms.FirstOrDefault(v => v.Name == plan.Vm), null);
    }

    private static T Carried<T>(T message, JsonTypeInfo<T> type) => JsonSerializer.Deserialize(JsonSerializer.SerializeToUtf8Bytes(message, type), type)!;

    private static MigrationState Applied(MigrationState state, MigrationEvent happened)
    {
        var transition = Transitions.Apply(state, happened);
        return transition.State ?? throw new FabricException(transition.Error!);
    }
}
