// What a supervisor knows when it decides. All of it is levels: what is true now, by whom it was said, and since when nothing was heard.
using System.Collections.Frozen;
using Fabric.Core;

namespace Fabric.Migration;

/// <summary>
/// A host as last seen. <paramref name="UnreachableSince"/>: when it was first missed, or null while it answers.
/// <paramref name="Incarnation"/>, <paramref name="Data"/> and <paramref name="Vm"/> are of the last facts; null before the first ones. <paramref name="AskedAt"/>: when the host was
/// asked for them; what they say was true then or later.
/// </summary>
public sealed record HostView(Guid? Incarnation, DataEndpoint? Data, VmFact? Vm, DateTimeOffset? UnreachableSince, DateTimeOffset? AskedAt = null)
{
    /// <summary>Facts are here and the host answers: what is absent from them is not true on that host.</summary>
    public bool Current => Incarnation is not null && UnreachableSince is null;

    public static HostView Unknown(DateTimeOffset since) => new(null, null, null, since);
}

/// <summary>The last answer to one step in this supervisor's life; a new supervisor begins without, asks again and gets the stored ones.</summary>
public sealed record StepAnswer(int Attempt, FabricError? Error, DateTimeOffset At);

/// <summary>
/// Everything that <see cref="Brain.Decide"/> looks at besides the state. <paramref name="SourceStats"/> and <paramref name="DestinationStats"/>: the last
/// numbers that were heard of this migration, also when the host has forgotten it since; they decide nothing.
/// </summary>
public sealed record Observation(
    DateTimeOffset Now, Epoch ShardEpoch, HostView Source, HostView Destination, IReadOnlyDictionary<MigrationStep, StepAnswer> Answers,
    string? AbortReason = null, MigrationStats? SourceStats = null, MigrationStats? DestinationStats = null)
{
    public static IReadOnlyDictionary<MigrationStep, StepAnswer> NoAnswers { get; } = FrozenDictionary<MigrationStep, StepAnswer>.Empty;

    public StepAnswer? Answer(MigrationStep step) => Answers.GetValueOrDefault(step);

    public bool Done(MigrationStep step) => Answer(step) is { Error: null };

    /// <summary>The source agent's word on this migration; null when it says nothing about it.</summary>
    public SourceFact? SourceFact(MigrationId id) => Source.Vm?.Outgoing is { } fact && fact.Migration == id ? fact : null;

    public DestinationFact? DestinationFact(MigrationId id) => Destination.Vm?.Incoming is { } fact && fact.Migration == id ? fact : null;
}

/// <summary>One command to send. The same id may be sent many times; it is executed once.</summary>
public sealed record StepOrder(MigrationStep Step, int Attempt, HostName Host, AgentCommand Command);

/// <summary>
/// What to do now: write events <em>or</em> send commands, never both. Commands follow from what is durable: the supervisor decides again after
/// its append, and only then acts. <paramref name="LookAgainAt"/>: when a deadline will have passed, if nothing happens before.
/// </summary>
public sealed record Decision(IReadOnlyList<MigrationEvent> Events, IReadOnlyList<StepOrder> Orders, DateTimeOffset? LookAgainAt, FabricError? AbortRefused = null)
{
    public static Decision Wait(DateTimeOffset? until = null) => new([], [], until);

    public static Decision Write(params MigrationEvent[] events) => new(events, [], null);

    public static Decision Send(StepOrder order, DateTimeOffset? until = null) => new([], [order], until);
}

/// <summary>Deadlines of a migration. After each, somebody is asked, or a step that the VM does not need is given up; none decides who may run.</summary>
public sealed record MigrationTimings
{
    public static MigrationTimings Default { get; } = new();

    /// <summary>From the plan until the destination's incoming machine waits; likewise until the source began to push.</summary>
    public TimeSpan Prepare { get; init; } = TimeSpan.FromSeconds(60);

    /// <summary>How long the token's outcome may be unknown before the destination is asked to refuse.</summary>
    public TimeSpan TokenOutcome { get; init; } = TimeSpan.FromSeconds(3);

    /// <summary>How long a source may be silent after a hand-over was intended before its token is taken for sent.</summary>
    public TimeSpan HandOver { get; init; } = TimeSpan.FromSeconds(10);

    /// <summary>How long a source may take to learn that the destination needs nothing more, before it is released without.</summary>
    public TimeSpan Drain { get; init; } = TimeSpan.FromSeconds(5);

    /// <summary>How long a host may be silent before a step that only tidies up there is put off.</summary>
    public TimeSpan Silence { get; init; } = TimeSpan.FromSeconds(30);

    /// <summary>How long a destination that may run the VM may be silent before an operator is told.</summary>
    public TimeSpan Fencing { get; init; } = TimeSpan.FromSeconds(60);

    /// <summary>Between attempts of a step after a definite refusal that may change; doubles, at most 16 times as long.</summary>
    public TimeSpan Retry { get; init; } = TimeSpan.FromSeconds(1);

    /// <summary>Between two questions for a place at a host that has as many moves as its limits allow.</summary>
    public TimeSpan Busy { get; init; } = TimeSpan.FromSeconds(2);

    /// <summary>How long a migration waits for a place before it fails, so that its evacuation tries another destination or says why the VM stays.</summary>
    public TimeSpan Place { get; init; } = TimeSpan.FromMinutes(10);

    /// <summary>Attempts of an undo that the VM does not depend on, before it is left to the host's own clean-up.</summary>
    public int UndoAttempts { get; init; } = 8;

    /// <summary>How long a pull may be broken with a source that says it holds nothing, before the VM is called lost.</summary>
    public TimeSpan SourceGone { get; init; } = TimeSpan.FromSeconds(15);
}
