// What an agent's ledger says about one VM: a pure fold over its records. This is the agent's half of "one VM runs in one place".
//
//   outgoing:  push-started → pushing ──handing-over──▶ handing-over ──token-sent──▶ token-sent ──handed-over──▶ handed-over ─drained▶ drained
//                 │ push-ended                            │ withdrawn                │ withdrawn (same process)         └──released──┘
//                 ▼                                       ▼                          │ taken-back (refused there)            ▼
//              push-failed                             withdrawn ◀───────────────────┘                                  released
//
//   incoming:  incoming → expected ──accepted──▶ accepted ──complete──▶ complete
//                 │ refused                        └──lost──▶ lost
//                 ▼
//              refused        (accepted and refused exclude each other for ever)
using System.Text.Json.Serialization;
using Fabric.Core;
using Fabric.Migration;
using Fabric.Transfer;

namespace Fabric.Host.Ledger;

/// <summary>
/// The outgoing migration that this ledger knows of, the last one. <paramref name="Lent"/>: bytes that the guest is to have again if it stays here, since its balloon was used; null: nothing
/// was taken, or it was told so.
/// </summary>
public sealed record OutgoingEntry(
    MigrationId Migration, SourcePhase Phase, HostName Destination, DataEndpoint Endpoint, Ticket Ticket, MigrationOptions Options,
    Epoch HandOverEpoch = default, MigrationMode? Mode = null, FabricError? Error = null, long? Lent = null)
{
    /// <summary>Nothing more is to be done for it by this agent.</summary>
    [JsonIgnore]
    public bool Ended => Phase is SourcePhase.PushFailed or SourcePhase.Withdrawn or SourcePhase.Released;
}

/// <summary>The durable half of <see cref="DestinationPhase"/>.</summary>
[JsonConverter(typeof(JsonStringEnumConverter<IncomingStep>))]
public enum IncomingStep
{
    Expected,
    Accepted,
    Complete,
    Refused,
    Lost,
}

public sealed record IncomingEntry(
    MigrationId Migration, IncomingStep Step, Epoch Epoch, HostName Source, Ticket? Ticket, MigrationOptions Options,
    HandOverKind? Kind = null, bool? Verified = null, string? Why = null)
{
    [JsonIgnore]
    public bool Ended => Step is IncomingStep.Complete or IncomingStep.Refused or IncomingStep.Lost;
}

/// <summary>One stored answer.</summary>
public sealed record StoredAnswer(CommandId Command, FabricError? Error);

/// <summary>One migration that this agent has durably refused.</summary>
public sealed record StoredRefusal(MigrationId Migration, Epoch Epoch, string Why);

/// <summary>A record that does not follow from the state before it: a bug or a damaged file; the VM is left alone.</summary>
public sealed class LedgerContradictionException(string message) : Exception(message);

public sealed record VmLedgerState
{
    /// <summary>Answers and refusals that are remembered; older ones are forgotten, oldest first.</summary>
    public const int Remembered = 64;

    public static VmLedgerState Empty { get; } = new();

    public VmSpec? Spec { get; init; }

    /// <summary>The right to run is here.</summary>
    public bool Owner { get; init; }

    /// <summary>The epoch of the right that is or was here.</summary>
    public Epoch RunEpoch { get; init; }

    /// <summary>No lower or equal epoch is ever handed over or accepted again.</summary>
    public Epoch HighestRunEpoch { get; init; }

    public Epoch ShardEpoch { get; init; }

    public Guid ShardTerm { get; init; }

    public string? Machine { get; init; }

    public OutgoingEntry? Outgoing { get; init; }

    public IncomingEntry? Incoming { get; init; }

    public IReadOnlyList<StoredAnswer> Answers { get; init; } = [];

    public IReadOnlyList<StoredRefusal> Refusals { get; init; } = [];

    /// <summary>The state after one more record.</summary>
    /// <exception cref="LedgerContradictionException">The record is not legal here.</exception>
    public VmLedgerState Apply(VmRecord record) => record switch
    {
        VmRecord.ShardSeen r => Legal(r.Epoch > ShardEpoch || (r.Epoch == ShardEpoch && r.Term == ShardTerm), r) with { ShardEpoch = r.Epoch, ShardTerm = r.Term },
        VmRecord.Answered r => this with { Answers = Remember(Answers, new StoredAnswer(r.Command, r.Error)) },
        VmRecord.Owned r => Legal(!Owner && r.Epoch > HighestRunEpoch && Outgoing is null or { Ended: true } && Incoming is null or { Ended: true }, r) with { Owner = true, Spec = r.Spec, RunEpoch = r.Epoch, HighestRunEpoch = r.Epoch, Outgoing = null, Incoming = null },
        VmRecord.MachineStarted r => this with { Machine = r.Adoption },
        VmRecord.MachineGone => this with { Machine = null },
        VmRecord.PushStarted r => Legal(Owner && Outgoing is null or { Ended: true } && Incoming is null or { Ended: true }, r) with
        {
            Outgoing = new OutgoingEntry(r.Migration, SourcePhase.Pushing, r.Destination, r.Endpoint, r.Ticket, r.Options, Lent: r.Lent),
        },
        VmRecord.MemoryReturned r => Legal(Owner && Outgoing is { Ended: true, Lent: not null } && Outgoing.Migration == r.Migration, r) with { Outgoing = Outgoing! with { Lent = null } },
        VmRecord.PushEnded r => Step(r.Migration, r, SourcePhase.PushFailed, r.Why, SourcePhase.Pushing),
        VmRecord.HandingOver r => Legal(Owner && r.Epoch > HighestRunEpoch, r).Step(r.Migration, r, SourcePhase.HandingOver, null, SourcePhase.Pushing).Burn(r.Epoch, r.Mode),
        VmRecord.TokenSent r => Legal(r.Epoch == HighestRunEpoch, r).Step(r.Migration, r, SourcePhase.TokenSent, null, SourcePhase.HandingOver) with { Owner = false },
        VmRecord.Withdrawn r => Step(r.Migration, r, SourcePhase.Withdrawn, r.Why, SourcePhase.HandingOver, SourcePhase.TokenSent) with { Owner = true },
        VmRecord.HandedOver r => Legal(r.Epoch == HighestRunEpoch, r).Step(r.Migration, r, SourcePhase.HandedOver, null, SourcePhase.TokenSent),
        VmRecord.TakenBack r => Legal(r.Epoch > HighestRunEpoch, r).Step(r.Migration, r, SourcePhase.Withdrawn, Outgoing?.Error, SourcePhase.TokenSent) with
        {
            Owner = true,
            RunEpoch = r.Epoch,
            HighestRunEpoch = r.Epoch,
        },
        VmRecord.Drained r => Step(r.Migration, r, SourcePhase.Drained, null, SourcePhase.HandedOver),
        VmRecord.Released r => Step(r.Migration, r, SourcePhase.Released, null, SourcePhase.TokenSent, SourcePhase.HandedOver, SourcePhase.Drained) with { Machine = null },
        VmRecord.Deleted => Legal(Outgoing is null or { Ended: true } && Incoming is null or { Ended: true }, record) with
        {
            Owner = false,
            Spec = null,
            Machine = null,
            Outgoing = null,
            Incoming = null,
        },
        VmRecord.Summary r => r.State,
        _ => ApplyIncoming(record),
    };

    /// <summary>The stored answer to a command that was executed before, if it is still remembered.</summary>
    public StoredAnswer? AnswerTo(CommandId command) => Answers.FirstOrDefault(a => a.Command == command);

    public StoredRefusal? RefusalOf(MigrationId migration) => Refusals.FirstOrDefault(r => r.Migration == migration);

    private VmLedgerState ApplyIncoming(VmRecord record) => record switch
    {
        VmRecord.IncomingExpected r => Legal(!Owner && r.Epoch > HighestRunEpoch && Incoming is null or { Ended: true } && Outgoing is null or { Ended: true } && RefusalOf(r.Migration) is null, r) with
        {
            Spec = r.Spec,
            Outgoing = null,
            Incoming = new IncomingEntry(r.Migration, IncomingStep.Expected, r.Epoch, r.Source, r.Ticket, r.Options),
        },
        VmRecord.Accepted r => Legal(r.Epoch > HighestRunEpoch && r.Epoch == Incoming?.Epoch, r).Step(r.Migration, r, IncomingStep.Accepted, null, IncomingStep.Expected) with
        {
            Owner = true,
            RunEpoch = r.Epoch,
            HighestRunEpoch = r.Epoch,
            Incoming = Incoming! with { Step = IncomingStep.Accepted, Kind = r.Kind },
        },
        VmRecord.PullCompleted r => Step(r.Migration, r, IncomingStep.Complete, null, IncomingStep.Accepted) with { Incoming = Incoming! with { Step = IncomingStep.Complete, Verified = r.Verified } },
        VmRecord.IncomingLost r => Step(r.Migration, r, IncomingStep.Lost, r.Why, IncomingStep.Accepted) with { Owner = false, Machine = null },
        VmRecord.Refused r => Refuse(r),
        _ => throw new LedgerContradictionException($"The ledger has a record of unknown kind {record.GetType().Name}."),
    };

    /// <summary>Legal for a migration never heard of, too: the statement then only closes the door.</summary>
    private VmLedgerState Refuse(VmRecord.Refused r)
    {
        bool ours = Incoming?.Migration == r.Migration;
        if (ours && Incoming!.Step is not (IncomingStep.Expected or IncomingStep.Refused))
            throw new LedgerContradictionException($"Refused after {Incoming.Step} of migration {r.Migration}.");
        return this with
        {
            Incoming = ours ? Incoming! with { Step = IncomingStep.Refused, Why = r.Why } : Incoming,
            Refusals = Remember(Refusals, new StoredRefusal(r.Migration, r.Epoch, r.Why)),
        };
    }

    private VmLedgerState Burn(Epoch epoch, MigrationMode mode) => this with
    {
        HighestRunEpoch = epoch,
        Outgoing = Outgoing! with { HandOverEpoch = epoch, Mode = mode },
    };

    private VmLedgerState Step(MigrationId migration, VmRecord record, SourcePhase next, FabricError? error, params ReadOnlySpan<SourcePhase> from)
    {
        if (Outgoing is null || Outgoing.Migration != migration || !from.Contains(Outgoing.Phase))
            throw new LedgerContradictionException($"{record.GetType().Name} of migration {migration} does not follow {Outgoing?.Phase.ToString() ?? "nothing"} of {Outgoing?.Migration}.");
        return this with { Outgoing = Outgoing with { Phase = next, Error = error } };
    }

    private VmLedgerState Step(MigrationId migration, VmRecord record, IncomingStep next, string? why, IncomingStep from)
    {
        if (Incoming is null || Incoming.Migration != migration || Incoming.Step != from)
            throw new LedgerContradictionException($"{record.GetType().Name} of migration {migration} does not follow {Incoming?.Step.ToString() ?? "nothing"} of {Incoming?.Migration}.");
        return this with { Incoming = Incoming with { Step = next, Why = why } };
    }

    private VmLedgerState Legal(bool condition, VmRecord record) => condition
        ? this
        : throw new LedgerContradictionException($"{record} does not follow owner={Owner}, epoch={RunEpoch}/{HighestRunEpoch}, outgoing={Outgoing?.Phase}, incoming={Incoming?.Step}.");

    private static T[] Remember<T>(IReadOnlyList<T> list, T item) => [.. list.Skip(Math.Max(0, list.Count - Remembered + 1)), item];
}
