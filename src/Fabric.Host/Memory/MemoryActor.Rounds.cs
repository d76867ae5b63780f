using Fabric.Host.Vm;
using Fabric.Migration;
using Fabric.Transfer;
using Microsoft.Extensions.Logging;

namespace Fabric.Host.Memory;

/// <summary>The source half while the guest runs here: rounds, what is decided after each and in the middle of long ones, and the guest's speed meanwhile.</summary>
internal sealed partial class MemoryActor
{
    private void StartRound(OutgoingState.Pushing pushing)
    {
        _outgoing = pushing with { RoundRuns = true };
        var transfer = pushing.Transfer;
        var watch = new RoundWatch(pushing, Context.Time);
        Context.PipeToSelf<MemoryMessage>(
            async stopping => new RoundEnded(transfer, await transfer.PushRoundAsync(watch.GoesOn, stopping), watch.Verdict),
            static ended => ended,
            error => new OutgoingBroke(transfer, error));
    }

    private void OnNextRound(NextRound m)
    {
        if (_outgoing is OutgoingState.Pushing { RoundRuns: false } s && ReferenceEquals(s.Transfer, m.Transfer))
            StartRound(s);
    }

    private void OnRoundEnded(RoundEnded m)
    {
        if (_outgoing is not OutgoingState.Pushing s || !ReferenceEquals(s.Transfer, m.Transfer))
            return;
        metrics.Round(m.Report.PagesSent);
        s = s with { RoundRuns = false, History = s.History.Add(m.Report) };
        _outgoing = s;
        if (s.Quiet is { } asked)
        {
            GoStill(s, asked);
            return;
        }

        if (s.Transfer.Over is { IsCompletedSuccessfully: true, Result: { } error })
        {
            // It broke behind the round's last confirmation.
            OnOutgoingBroke(new OutgoingBroke(s.Transfer, error));
            return;
        }

        switch (s.Converged)
        {
            case null:
                Act(s, m.Verdict ?? Decide(s));
                break;
            case MigrationMode.PreCopy:
                AwaitHandOver(s);
                break;
        }
    }

    private ConvergenceDecision Decide(OutgoingState.Pushing s) => Convergence.Decide(
        ConvergenceInputs.From(s.Options, s.History, Context.Time.GetElapsedTime(s.History.Started), s.Throttle is not null));

    private void Act(OutgoingState.Pushing s, ConvergenceDecision decision)
    {
        var migration = s.Route.Terms.Migration;
        switch (decision)
        {
            case ConvergenceDecision.SwitchOver d:
                var mode = d.To == MigrationMode.PostCopy ? MigrationMode.Hybrid : d.To;
                logger.LogInformation("Push of migration {Migration} has converged after {Rounds} rounds: {Reason}.", migration, s.History.Rounds.Count, d.Reason);
                s = s with { Converged = mode };
                _outgoing = s;
                OnReportProgress();
                vm.TryTell(new PushConverged(migration, mode, s.History.Story(d.Reason)));
                // What will be pulled is not copied once more.
                if (mode == MigrationMode.PreCopy)
                    AwaitHandOver(s);
                break;
            case ConvergenceDecision.Throttle d:
                logger.LogInformation("Push of migration {Migration}, after {Rounds} rounds: {Reason}.", migration, s.History.Rounds.Count, d.Reason);
                ChangeSpeed(s, d.CpuPercent);
                StartRound(s with { History = s.History.Throttled(d) });
                break;
            case ConvergenceDecision.GiveUp d:
                logger.LogWarning("Push of migration {Migration} is given up after {Rounds} rounds: {Error}", migration, s.History.Rounds.Count, d.Error);
                LeaveOutgoing(new OutgoingState.None(d.Error));
                vm.TryTell(new PushBroke(migration, d.Error));
                break;
            default:
                StartRound(s);
                break;
        }
    }

    /// <summary>Rounds go on until the hand-over is ordered, so that little is left to copy; a short pause keeps an idle guest's rounds from spinning.</summary>
    private void AwaitHandOver(OutgoingState.Pushing s) => Context.TellAfter(IdlePause, new NextRound(s.Transfer));

    /// <summary>Asked beside the rounds: the hypervisor may take its time. A lift that comes meanwhile wins.</summary>
    private void ChangeSpeed(OutgoingState.Pushing s, int percent)
    {
        var (throttle, transfer) = (s.Throttle!, s.Transfer);
        Context.PipeToSelf<MemoryMessage>(
            async stopping =>
            {
                await throttle.SetAsync(percent, stopping);
                return new SpeedChanged(transfer, null);
            },
            static changed => changed,
            error => new SpeedChanged(transfer, error));
    }

    /// <summary>Where the guest cannot be slowed the rounds go on without, and the next decision knows it.</summary>
    private void OnSpeedChanged(SpeedChanged m)
    {
        if (m.Error is not { } error || _outgoing is not OutgoingState.Pushing { Throttle: not null } s || !ReferenceEquals(s.Transfer, m.Transfer))
            return;
        logger.LogWarning("The guest of migration {Migration} cannot be slowed down: {Error}", s.Route.Terms.Migration, error);
        s.Throttle.Lift();
        var history = s.History with { CpuPercent = 100, Steps = [.. s.History.Steps, "the guest could not be slowed down: " + error.Message] };
        _outgoing = s with { Throttle = null, History = history };
    }

    /// <summary>The guest that leaves the push, whatever way, has its speed again.</summary>
    private static void Unthrottle(OutgoingState state)
    {
        if (state is OutgoingState.Pushing { Throttle: { } throttle })
            throttle.Lift();
    }

    private void OnStopRounds(StopRounds m)
    {
        switch (_outgoing)
        {
            case OutgoingState.Still:
                WithStill(m.Reply, (transfer, stopping) => transfer.PrepareFinishAsync(m.Kind, stopping));
                break;
            case OutgoingState.Pushing { RoundRuns: false } s:
                GoStill(s, m);
                break;
            case OutgoingState.Pushing s:
                _outgoing = s with { Quiet = m };
                break;
            default:
                m.Reply.Fail(NoStream());
                break;
        }
    }

    private void GoStill(OutgoingState.Pushing s, StopRounds asked)
    {
        Unthrottle(s);
        _outgoing = new OutgoingState.Still(s.Route, s.Transfer, s.Memory);
        OnStopRounds(asked);
    }

    /// <summary>Judges a round while it runs, on the transfer's threads: all that it looks at was true when the round began, or comes with the question.</summary>
    private sealed class RoundWatch(OutgoingState.Pushing pushing, TimeProvider time)
    {
        private volatile ConvergenceDecision? _verdict;

        /// <summary>Read after the round's end.</summary>
        internal ConvergenceDecision? Verdict => _verdict;

        internal bool GoesOn(PushLook look)
        {
            if (pushing.Converged is null)
                _verdict = Convergence.BreakOff(ConvergenceInputs.From(pushing.Options, pushing.History, look, time.GetElapsedTime(pushing.History.Started)));
            return _verdict is null;
        }
    }
}
