using Fabric.Core;
using Fabric.Host.Link;
using Fabric.Machines;
using Fabric.Migration;
using Fabric.Transfer;

namespace Fabric.Host.Memory;

/// <summary>Source half. A state holds only what is true in it.</summary>
internal abstract record OutgoingState
{
    /// <summary><paramref name="Why"/>: what broke the stream that was here.</summary>
    internal sealed record None(FabricError? Why = null) : OutgoingState;

    internal sealed record Connecting(OutgoingRoute Route, MigrationOptions Options, IGuestMemory Memory, IThrottle? Throttle) : OutgoingState;

    /// <summary>
    /// Rounds follow each other. <paramref name="Quiet"/> is set once somebody waits for the present one to be the last. <paramref name="Throttle"/>: what may hold the guest back; null where
    /// nothing can. It holds the guest back in this state alone: whoever leaves the state lifts it.
    /// </summary>
    internal sealed record Pushing(
        OutgoingRoute Route, MigrationOptions Options, IOutgoingTransfer Transfer, IGuestMemory Memory, PushHistory History,
        bool RoundRuns, MigrationMode? Converged, StopRounds? Quiet, IThrottle? Throttle) : OutgoingState;

    /// <summary>The stream is up and no round runs: the hand-over has it.</summary>
    internal sealed record Still(OutgoingRoute Route, IOutgoingTransfer Transfer, IGuestMemory Memory) : OutgoingState;

    /// <summary>The VM runs at the destination, which asks for pages. <paramref name="Before"/>: the numbers of the streams that broke, if any did.</summary>
    internal sealed record Serving(OutgoingRoute Route, IOutgoingTransfer Transfer, IGuestMemory Memory, MigrationStats? Before) : OutgoingState;

    /// <summary>As Serving, but the link is down; <paramref name="Attempt"/> counts tries since it went down.</summary>
    internal sealed record Reconnecting(OutgoingRoute Route, IGuestMemory Memory, int Attempt, MigrationStats? Before) : OutgoingState;
}

/// <summary>What the rounds so far have shown; the input of the convergence decision.</summary>
/// <param name="Started">Time stamp.</param>
/// <param name="Rounds">All of them, oldest first.</param>
/// <param name="CpuPercent">Per cent of its CPU time that the guest is left; 100 when nothing holds it back.</param>
/// <param name="RoundsAtOtherSpeeds">How many of the rounds were done before the guest had its present speed.</param>
/// <param name="Steps">Decisions that belong into the record, each with its reason.</param>
internal sealed record PushHistory(long Started, IReadOnlyList<RoundReport> Rounds, int CpuPercent, int RoundsAtOtherSpeeds, IReadOnlyList<string> Steps)
{
    internal static PushHistory Begin(long started) => new(started, [], 100, 0, []);

    internal PushHistory Add(RoundReport report) => this with { Rounds = [.. Rounds, report] };

    internal PushHistory Throttled(ConvergenceDecision.Throttle decision) => this with
    {
        CpuPercent = decision.CpuPercent,
        RoundsAtOtherSpeeds = Rounds.Count,
        Steps = [.. Steps, decision.Reason],
    };

    /// <summary>Everything that was decided on the way to the end, which is <paramref name="last"/>.</summary>
    internal string Story(string last) => string.Join("; ", Steps.Append(last));
}

/// <summary>Destination half.</summary>
internal abstract record IncomingState
{
    internal sealed record None : IncomingState;

    /// <summary>
    /// The door is open, and <paramref name="Transfer"/> is the stream that came or will come through it. <paramref name="Broken"/>: an earlier
    /// one broke and nothing has come through this one yet. <paramref name="Before"/>: the numbers of those that broke, if any did.
    /// </summary>
    internal sealed record Receiving(IncomingRoute Route, IMachine Machine, IIncomingDoor Door, IIncomingTransfer Transfer, bool Broken, MigrationStats? Before) : IncomingState;

    /// <summary>
    /// The stream broke and is being closed, after which the next one is taken. A state of its own: what the broken stream carried is no sign that the
    /// pull goes on.
    /// </summary>
    internal sealed record Closing(IncomingRoute Route, IMachine Machine, IIncomingDoor Door, IIncomingTransfer Transfer, MigrationStats Before) : IncomingState;
}
