// One migration, from its plan to its end. The loop: observe (facts, answers, time) → decide (Fabric.Migration.Brain) → append → decide again → act.
//
//   · It never acts before its append succeeded: a decision holds events or commands, never both.
//   · An append whose outcome is unknown ends this instance with an exception; after a back-off the next one reads the stream again.
//   · It keeps nothing that cannot be lost: answers to commands are asked again under the same ids, facts are levels.
//   · When the shard's tenure ends, it stops; agents and journal refuse its epoch from then on anyway.
using Fabric.Actors;
using Fabric.Cluster;
using Fabric.Core;
using Fabric.Journal;
using Fabric.Migration;
using Fabric.Supervisor.Vms;
using Microsoft.Extensions.Logging;

namespace Fabric.Supervisor.Migrations;

internal sealed partial class MigrationSupervisor(ControlServices services, ShardTenure tenure, MigrationPlan plan, IActorRef<VmMessage> ledger)
    : Actor<MigrationMessage>
{
    /// <summary>Decisions in a row that only write. The longest real chain is 4; more means that the brain goes in a circle.</summary>
    private const int MostDecisions = 16;

    private readonly ILogger _log = services.Loggers.CreateLogger<MigrationSupervisor>();
    private readonly EventStream<MigrationEvent> _stream = new(services.Journal, tenure, StreamOf(plan.Id), EventCodec.Catalog);
    private readonly Dictionary<MigrationStep, StepAnswer> _answers = [];
    private readonly Dictionary<MigrationStep, int> _inFlight = [];
    private readonly Dictionary<MigrationStep, (int Failures, DateTimeOffset NotBefore)> _unknown = [];
    private readonly List<IDisposable> _subscriptions = [];
    private MigrationState _state = Unborn.Instance;
    private MigrationStats? _sourceStats;
    private MigrationStats? _destinationStats;
    private string? _abortReason;
    private IDisposable? _timer;
    private int _lookQueued; // 1 while a Look waits in the mailbox, so that a busy host does not fill it

    public const string StreamPrefix = "migration/";

    public static StreamId StreamOf(MigrationId id) => new(StreamPrefix + id);

    protected override async ValueTask StartedAsync()
    {
        var events = await _stream.LoadAsync(Context.Stopping);
        if (events.Count == 0)
        {
            events = [new MigrationPlanned(services.Now, plan)];
            await _stream.AppendAsync(events, Context.Stopping);
        }

        services.Clock.NotBefore(events[^1].At); // another node's clock may be ahead: deadlines count from there
        Apply(events);
        foreach (var host in new[] { plan.Source, plan.Destination })
        {
            _subscriptions.Add(services.Board.Subscribe(Board.HostTopic(host), QueueLook));
            _subscriptions.Add(services.Board.Subscribe(Board.HostVmTopic(host, plan.Vm), QueueLook));
        }

        await AdvanceAsync();
    }

    protected override ValueTask StoppingAsync()
    {
        foreach (var subscription in _subscriptions)
            subscription.Dispose();
        _subscriptions.Clear();
        _timer?.Dispose();
        return ValueTask.CompletedTask;
    }

    protected override async ValueTask ReceiveAsync(MigrationMessage message)
    {
        switch (message)
        {
            case Look:
                Volatile.Write(ref _lookQueued, 0);
                break;
            case StepAnswered answered:
                _inFlight.Remove(answered.Step);
                _unknown.Remove(answered.Step);
                _answers[answered.Step] = new StepAnswer(answered.Attempt, answered.Error, services.Now);
                if (answered.Error is not null)
                    LogRefused(_log, plan.Id, answered.Step, answered.Attempt, answered.Error.ToString());
                break;
            case StepUnknown unknown:
                _inFlight.Remove(unknown.Step);
                int failures = _unknown.GetValueOrDefault(unknown.Step).Failures + 1;
                var delay = services.Ids.Jitter(services.Options.CommandRetry * (1 << Math.Min(failures - 1, 4)));
                _unknown[unknown.Step] = (failures, services.Now + delay);
                LogUnknown(_log, plan.Id, unknown.Step, unknown.Why.ToString());
                break;
            case GiveUp giveUp:
                await GiveUpAsync(giveUp);
                return;
            default:
                throw new InvalidOperationException($"No handler is written for {message.GetType().Name}.");
        }

        await AdvanceAsync();
    }

    private async Task GiveUpAsync(GiveUp asked)
    {
        if (Brain.AbortRefusal(_state) is { } refusal)
        {
            asked.Reply.Fail(refusal);
            return;
        }

        _abortReason = asked.Reason;
        await AdvanceAsync();
        asked.Reply.Succeed((KnownState)_state);
    }

    private async Task AdvanceAsync()
    {
        for (int i = 0; i < MostDecisions; i++)
        {
            if (!tenure.Held)
            {
                Context.Stop();
                return;
            }

            if (_state is TerminalState end)
            {
                // Told again in every life until the ledger has settled it.
                ledger.TryTell(new MigrationEnded(end));
                Context.Stop();
                return;
            }

            var decision = Brain.Decide(_state, Observe(), services.Options.Timings);
            if (decision.Events.Count == 0)
            {
                var due = decision.LookAgainAt;
                foreach (var order in decision.Orders)
                    due = Earlier(due, Send(order));
                LookAt(due);
                return;
            }

            await _stream.AppendAsync(decision.Events, Context.Stopping);
            Apply(decision.Events);
        }

        throw new FabricException(ErrorCodes.Internal, $"Migration {plan.Id} decides without end in '{_state.Name}'.", "This is a defect; the stream shows how it came there.");
    }

    private void Apply(IReadOnlyList<MigrationEvent> events)
    {
        foreach (var happened in events)
        {
            var (next, error) = Transitions.Apply(_state, happened);
            if (error is not null)
                throw new FabricException(error);
            _state = next!;
            LogEvent(_log, plan.Id, plan.Vm, EventCodec.KindOf(happened), _state.Name, tenure.Epoch);
        }

        // The end is published by the ledger, once it has settled who owns the VM: whoever sees a migration over sees its VM at its new home.
        if (_state is ActiveState active)
            services.Board.Publish(active);
    }

    private Observation Observe()
    {
        var source = View(plan.Source);
        var destination = View(plan.Destination);
        var observation = new Observation(services.Now, tenure.Epoch, source, destination, _answers, _abortReason, _sourceStats, _destinationStats);
        _sourceStats = observation.SourceFact(plan.Id)?.Stats ?? _sourceStats;
        _destinationStats = observation.DestinationFact(plan.Id)?.Stats ?? _destinationStats;
        return observation with { SourceStats = _sourceStats, DestinationStats = _destinationStats };
    }

    private HostView View(HostName host)
    {
        var level = services.Board.Host(host);
        return new HostView(level.Facts?.Incarnation, level.Facts?.Data, level.Vm(plan.Vm), level.UnreachableSince, level.AskedAt);
    }

    /// <summary>Sends unless the same step is on its way; returns when to try again if it may not be sent yet.</summary>
    private DateTimeOffset? Send(StepOrder order)
    {
        if (_inFlight.ContainsKey(order.Step))
            return null;
        if (_unknown.TryGetValue(order.Step, out var wait) && services.Now < wait.NotBefore)
            return wait.NotBefore;
        _inFlight[order.Step] = order.Attempt;
        LogSend(_log, plan.Id, order.Step, order.Attempt, order.Host, tenure.Epoch);
        Context.PipeToSelf(
            cancellation => services.SendAsync(tenure, order.Host, order.Command, cancellation),
            result => (MigrationMessage)new StepAnswered(order.Step, order.Attempt, result.Error),
            error => new StepUnknown(order.Step, order.Attempt, error));
        return null;
    }

    private void LookAt(DateTimeOffset? due)
    {
        _timer?.Dispose();
        _timer = null;
        if (due is not { } at)
            return;
        // A deadline that is over and changed nothing is looked at again only slowly: a circle of looks would burn a processor.
        var delay = at - services.Now;
        _timer = Context.TellAfter(delay > services.Options.CommandRetry ? delay : delay > TimeSpan.Zero ? delay : services.Options.CommandRetry, Look.Instance);
    }

    private void QueueLook()
    {
        if (Interlocked.Exchange(ref _lookQueued, 1) == 0 && !Context.Self.TryTell(Look.Instance))
            Volatile.Write(ref _lookQueued, 0);
    }

    private static DateTimeOffset? Earlier(DateTimeOffset? one, DateTimeOffset? other) =>
        one is null ? other : other is null || one < other ? one : other;

    [LoggerMessage(Level = LogLevel.Information, Message = "Migration {Migration} of {Vm}: {Event} → {Phase} (shard epoch {Epoch}).")]
    private static partial void LogEvent(ILogger logger, MigrationId migration, VmName vm, string @event, string phase, Epoch epoch);

    [LoggerMessage(Level = LogLevel.Debug, Message = "Migration {Migration}: {Step} (attempt {Attempt}) → {Host} at shard epoch {Epoch}.")]
    private static partial void LogSend(ILogger logger, MigrationId migration, MigrationStep step, int attempt, HostName host, Epoch epoch);

    [LoggerMessage(Level = LogLevel.Warning, Message = "Migration {Migration}: {Step} (attempt {Attempt}) was refused: {Error}")]
    private static partial void LogRefused(ILogger logger, MigrationId migration, MigrationStep step, int attempt, string error);

    [LoggerMessage(Level = LogLevel.Warning, Message = "Migration {Migration}: {Step} was not answered: {Error}")]
    private static partial void LogUnknown(ILogger logger, MigrationId migration, MigrationStep step, string error);
}
