using Fabric.Core;
using Fabric.Host.Link;
using Fabric.Host.Vm;
using Fabric.Machines;
using Fabric.Migration;
using Fabric.Transfer;
using Microsoft.Extensions.Logging;

namespace Fabric.Host.Memory;

/// <summary>The source half: the stream, its hand-over, serving the pull. Rounds are in <c>MemoryActor.Rounds.cs</c>.</summary>
internal sealed partial class MemoryActor
{
    private void OnBeginPush(BeginPush m)
    {
        LeaveOutgoing(new OutgoingState.Connecting(m.Route, m.Options, m.Memory, m.Throttle));
        StartProgress();
        Connect(m.Route, m.Memory, pullsAtOnce: m.Options.Mode == MigrationMode.PostCopy);
    }

    /// <param name="pullsAtOnce">Nothing is pushed first: what the guest writes from now on until it stands is all that will be known of its habits, so the looking begins here.</param>
    private void Connect(OutgoingRoute route, IGuestMemory memory, bool pullsAtOnce = false)
    {
        var migration = route.Terms.Migration;
        Context.PipeToSelf<MemoryMessage>(
            async stopping =>
            {
                using var deadline = new CancellationTokenSource(ConnectDeadline, Context.Time);
                using var either = CancellationTokenSource.CreateLinkedTokenSource(deadline.Token, stopping);
                var transfer = await plane.ConnectAsync(route, memory, looks: pullsAtOnce, either.Token);
                if (pullsAtOnce)
                    await PrepareAsync(transfer, either.Token);
                return new Connected(migration, transfer);
            },
            static connected => connected,
            error => new ConnectFailed(migration, error));
    }

    private void OnConnected(Connected m)
    {
        switch (_outgoing)
        {
            case OutgoingState.Connecting s when s.Route.Terms.Migration == m.Migration && s.Options.Mode == MigrationMode.PostCopy:
                WatchEnd(m.Transfer);
                _outgoing = new OutgoingState.Still(s.Route, m.Transfer, s.Memory);
                vm.TryTell(new PushConverged(m.Migration, MigrationMode.PostCopy, Convergence.NothingFirst));
                break;
            case OutgoingState.Connecting s when s.Route.Terms.Migration == m.Migration:
                WatchEnd(m.Transfer);
                StartRound(new OutgoingState.Pushing(
                    s.Route, s.Options, m.Transfer, s.Memory, PushHistory.Begin(Context.Time.GetTimestamp()), RoundRuns: false, Converged: null, Quiet: null, s.Throttle));
                break;
            case OutgoingState.Reconnecting s when s.Route.Terms.Migration == m.Migration:
                Serve(s.Route, m.Transfer, s.Memory, s.Before);
                break;
            default:
                ReleaseBeside(m.Transfer);
                break;
        }
    }

    private static async Task PrepareAsync(IOutgoingTransfer transfer, CancellationToken cancellation)
    {
        try
        {
            await transfer.PrepareFinishAsync(HandOverKind.Pull, cancellation);
        }
        catch
        {
            await transfer.DisposeAsync();
            throw;
        }
    }

    /// <summary>A stream on which nothing is under way (converged, still) breaks too, and its VM must hear of it: nobody else would.</summary>
    private void WatchEnd(IOutgoingTransfer transfer) => Context.PipeToSelf<MemoryMessage>(
        async stopping => await transfer.Over.WaitAsync(stopping) is { } error ? new OutgoingOver(transfer, error) : new Ignore(),
        static over => over,
        static _ => new Ignore());

    private void OnConnectFailed(ConnectFailed m)
    {
        switch (_outgoing)
        {
            case OutgoingState.Connecting s when s.Route.Terms.Migration == m.Migration:
                _outgoing = new OutgoingState.None();
                vm.TryTell(new PushBroke(m.Migration, m.Error));
                break;
            case OutgoingState.Reconnecting s when s.Route.Terms.Migration == m.Migration:
                Retry(s with { Attempt = s.Attempt + 1 }, m.Error);
                break;
        }
    }

    /// <summary>Whoever asks for a stream that broke hears why, not only that it is gone.</summary>
    private FabricError NoStream() => _outgoing is OutgoingState.None { Why: { } why }
        ? why
        : new FabricError(ErrorCodes.Conflict, $"The outgoing stream is {_outgoing.GetType().Name.ToLowerInvariant()}; there is nothing to finish.");

    private void OnServePulling()
    {
        if (_outgoing is OutgoingState.Still s)
            Serve(s.Route, s.Transfer, s.Memory, before: null);
    }

    private void OnResumeServing(ResumeServing m)
    {
        if (_outgoing is OutgoingState.Serving serving && serving.Route == m.Route)
            return;
        LeaveOutgoing(new OutgoingState.Reconnecting(m.Route, m.Memory, 0, Counted(_outgoing)));
        StartProgress();
        Connect(m.Route, m.Memory);
    }

    private void Serve(OutgoingRoute route, IOutgoingTransfer transfer, IGuestMemory memory, MigrationStats? before)
    {
        if (_outgoing is OutgoingState.Reconnecting { Attempt: >= StalledAttempts })
            vm.TryTell(new ServingStalled(route.Terms.Migration, Stalled: false));
        _outgoing = new OutgoingState.Serving(route with { Resume = true }, transfer, memory, before);
        Context.PipeToSelf<MemoryMessage>(
            async stopping =>
            {
                await transfer.ServePullAsync(stopping);
                return new Served(transfer);
            },
            static served => served,
            error => new OutgoingBroke(transfer, error));
    }

    private void OnServed(Served m)
    {
        if (_outgoing is not OutgoingState.Serving s || !ReferenceEquals(s.Transfer, m.Transfer))
            return;
        OnReportProgress();
        LeaveOutgoing(new OutgoingState.None());
        vm.TryTell(new PullServed(s.Route.Terms.Migration));
    }

    /// <summary>Work that is under way on the stream fails by itself and says so; only where nothing is, this is the one who does.</summary>
    private void OnOutgoingOver(OutgoingOver m)
    {
        switch (_outgoing)
        {
            case OutgoingState.Pushing { RoundRuns: false } s when ReferenceEquals(s.Transfer, m.Transfer):
                OnOutgoingBroke(new OutgoingBroke(m.Transfer, m.Error));
                break;
            case OutgoingState.Still s when ReferenceEquals(s.Transfer, m.Transfer):
                // The hand-over may be using it: whoever takes this word, or ends the hand-over, lets it go.
                vm.TryTell(new PushBroke(s.Route.Terms.Migration, m.Error));
                break;
        }
    }

    private void OnOutgoingBroke(OutgoingBroke m)
    {
        if (!ReferenceEquals(TransferOf(_outgoing), m.Transfer))
            return;
        metrics.Broke();
        var broken = _outgoing;
        LeaveOutgoing(new OutgoingState.None(m.Error));
        switch (broken)
        {
            case OutgoingState.Pushing s:
                s.Quiet?.Reply.Fail(m.Error);
                vm.TryTell(new PushBroke(s.Route.Terms.Migration, m.Error));
                break;
            case OutgoingState.Serving s:
                Retry(new OutgoingState.Reconnecting(s.Route, s.Memory, 0, Counted(s)), m.Error);
                break;
        }
    }

    /// <summary>The VM waits for these pages, so there is no last attempt; the pause between two is bounded and random.</summary>
    private void Retry(OutgoingState.Reconnecting next, FabricError error)
    {
        _outgoing = next;
        var migration = next.Route.Terms.Migration;
        if (next.Attempt > 0 && next.Attempt % StalledAttempts == 0)
            vm.TryTell(new ServingStalled(migration, Stalled: true)); // said again: a mailbox may be full
        logger.LogWarning("Serving migration {Migration} broke ({Error}); attempt {Attempt} to reconnect follows.", migration, error, next.Attempt + 1);
        Context.TellAfter(Backoff(next.Attempt), new ConnectAgain(migration));
    }

    /// <summary>What the present stream, and in a pull those that broke before it, have counted so far.</summary>
    private static MigrationStats? Counted(OutgoingState state) => state switch
    {
        OutgoingState.Pushing s => s.Transfer.Snapshot() with { CpuPercent = s.History.CpuPercent < 100 ? s.History.CpuPercent : null },
        OutgoingState.Still s => s.Transfer.Snapshot(),
        OutgoingState.Serving s => s.Transfer.Snapshot().After(s.Before),
        OutgoingState.Reconnecting s => s.Before,
        _ => null,
    };

    private void OnConnectAgain(ConnectAgain m)
    {
        if (_outgoing is OutgoingState.Reconnecting s && s.Route.Terms.Migration == m.Migration)
            Connect(s.Route, s.Memory);
    }

    private void LeaveOutgoing(OutgoingState next)
    {
        Unthrottle(_outgoing);
        ReleaseBeside(TransferOf(_outgoing));
        _outgoing = next;
    }
}
