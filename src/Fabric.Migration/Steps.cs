// Every forward step stands here beside its undo. UndoList.For is the one place that turns a state into what must be undone, last step first.
using System.Collections;
using System.Collections.Immutable;
using System.Globalization;
using System.Security.Cryptography;
using System.Text;
using System.Text.Json.Serialization;
using Fabric.Core;

namespace Fabric.Migration;

/// <summary>A command of a migration; with <see cref="MigrationId"/> and attempt it names one command id.</summary>
public enum MigrationStep
{
    Prepare,
    Push,
    HandOver,
    ServePull,
    Release,
    Cancel,
    Refuse,
    TakeBack,
}

/// <summary>How a forward step is taken back.</summary>
[JsonConverter(typeof(JsonStringEnumConverter<UndoStep>))]
public enum UndoStep
{
    [JsonStringEnumMemberName("refuse-incoming")] RefuseIncoming,
    [JsonStringEnumMemberName("cancel-outgoing")] CancelOutgoing,
    [JsonStringEnumMemberName("take-back")] TakeBack,
}

/// <summary>
/// One row per forward step: its undo, and the undo once the token may have left (null: the step is then beyond undoing by us alone).
/// </summary>
public sealed record StepRow(MigrationStep Forward, UndoStep Undo, string Rule);

/// <summary>The undo steps still to be done, next one first. Compared by content.</summary>
public sealed class UndoList : IEquatable<UndoList>, IReadOnlyList<UndoStep>
{
    private readonly ImmutableArray<UndoStep> _steps;

    private UndoList(ImmutableArray<UndoStep> steps) => _steps = steps;

    /// <summary>Forward steps in order. A state has begun the first n of them.</summary>
    public static ImmutableArray<StepRow> Steps { get; } =
    [
        new(MigrationStep.Prepare, UndoStep.RefuseIncoming, "the destination states durably that it will never accept, and removes the incoming machine"),
        new(MigrationStep.Push, UndoStep.CancelOutgoing, "the source stops copying; its VM never stood"),
        new(MigrationStep.HandOver, UndoStep.TakeBack, "only after the destination's durable refusal; a hand-over that the source withdrew by itself has nothing to take back"),
    ];

    /// <summary>What a state must undo. Null: nothing may be undone from here (the token may have left, or the VM is already at home).</summary>
    public static UndoList? For(MigrationState state) => state switch
    {
        Planned => FirstSteps(1),
        Prepared or Pushing => FirstSteps(2),
        Aborting aborting => aborting.Remaining,
        _ => null,
    };

    /// <summary>The source withdrew before the token left: the preparation and the push remain to be undone.</summary>
    public static UndoList AfterWithdrawal => FirstSteps(2);

    /// <summary>The destination refused durably (which undid the preparation, and ended the push).</summary>
    public static UndoList AfterRefusal => new([Steps[2].Undo]);

    public UndoStep? Next => _steps.IsEmpty ? null : _steps[0];

    public int Count => _steps.Length;

    public UndoStep this[int index] => _steps[index];

    /// <summary>Null when <paramref name="step"/> is not the next one: undos run in order.</summary>
    public UndoList? Without(UndoStep step) => Next == step ? new UndoList(_steps.RemoveAt(0)) : null;

    public bool Equals(UndoList? other) => other is not null && _steps.AsSpan().SequenceEqual(other._steps.AsSpan());

    public override bool Equals(object? obj) => Equals(obj as UndoList);

    public override int GetHashCode() => _steps.Aggregate(17, static (hash, step) => HashCode.Combine(hash, step));

    public override string ToString() => _steps.IsEmpty ? "nothing" : string.Join(", ", _steps);

    public IEnumerator<UndoStep> GetEnumerator() => _steps.AsEnumerable().GetEnumerator();

    IEnumerator IEnumerable.GetEnumerator() => GetEnumerator();

    private static UndoList FirstSteps(int count) => new([.. Steps.Take(count).Reverse().Select(static row => row.Undo)]);
}

/// <summary>
/// Command ids are computed, not drawn: a supervisor that was born a moment ago asks with the id its predecessor used and gets the
/// stored answer. A new attempt is a new id; it is made only after a definite answer that may change.
/// </summary>
public static class CommandIds
{
    /// <param name="scope">What the command belongs to: a migration's id, or <c>create/NAME/…</c>.</param>
    /// <param name="step">Stable name of the step.</param>
    /// <param name="attempt">From 0.</param>
    public static CommandId For(string scope, string step, int attempt)
    {
        byte[] digest = SHA256.HashData(Encoding.UTF8.GetBytes(string.Create(CultureInfo.InvariantCulture, $"{scope}/{step}/{attempt}")));
        return new CommandId(new Guid(digest.AsSpan(0, 16)));
    }

    public static CommandId For(MigrationId migration, MigrationStep step, int attempt) => For(migration.ToString(), step.ToString(), attempt);
}
