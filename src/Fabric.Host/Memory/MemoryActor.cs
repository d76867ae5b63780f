// One VM's memory on this host: owns the streams that pages take, in either direction, and nothing else does.
//
//   source:       BeginPush → connecting → pushing ─(StopRounds)→ still ─FinishStopped, PassToken→ still ─ServePulling→ serving → none
//                                                                                                 serving ⇄ reconnecting
//   destination:  ExpectIncoming → receiving → none
//                                  receiving ─broke→ closing → receiving
//
// The VM's actor decides who may run; this actor only moves pages and says how it went. Every stream is disposed by this actor,
// beside it (a dispose joins threads), after it has left the state.
using Fabric.Actors;
using Fabric.Core;
using Fabric.Host.Link;
using Fabric.Host.Vm;
using Fabric.Transfer;
using Microsoft.Extensions.Logging;

namespace Fabric.Host.Memory;

internal sealed partial class MemoryActor(IActorRef<VmMessage> vm, IDataPlane plane, MemoryMetrics metrics, Random random, ILogger logger) : Actor<MemoryMessage>
{
    private static readonly TimeSpan ProgressPeriod = TimeSpan.FromMilliseconds(250);
    private static readonly TimeSpan ConnectDeadline = TimeSpan.FromSeconds(10);
    private static readonly TimeSpan IdlePause = TimeSpan.FromMilliseconds(5);

    /// <summary>Attempts in vain, over three seconds or more, after which a pull is called stalled.</summary>
    private const int StalledAttempts = 8;

    private static readonly TimeSpan MinBackoff = TimeSpan.FromMilliseconds(50);
    private static readonly TimeSpan MaxBackoff = TimeSpan.FromSeconds(2);

    private OutgoingState _outgoing = new OutgoingState.None();
    private IncomingState _incoming = new IncomingState.None();
    private IDisposable? _progress;

    protected override ValueTask StoppingAsync()
    {
        _progress?.Dispose();
        Unthrottle(_outgoing);
        ReleaseBeside(TransferOf(_outgoing));
        LeaveIncoming();
        return ValueTask.CompletedTask;
    }

    protected override ValueTask ReceiveAsync(MemoryMessage message)
    {
        switch (message)
        {
            case BeginPush m: OnBeginPush(m); break;
            case StopRounds m: OnStopRounds(m); break;
            case FinishStopped m: WithStill(m.Reply, (transfer, stopping) => FinishAsync(transfer, m, stopping)); break;
            case PassToken m: WithStill(m.Reply, (transfer, stopping) => transfer.PassTokenAsync(m.Epoch, stopping)); break;
            case ServePulling: OnServePulling(); break;
            case ResumeServing m: OnResumeServing(m); break;
            case EndOutgoing: LeaveOutgoing(new OutgoingState.None()); break;
            case Connected m: OnConnected(m); break;
            case ConnectFailed m: OnConnectFailed(m); break;
            case ConnectAgain m: OnConnectAgain(m); break;
            case NextRound m: OnNextRound(m); break;
            case RoundEnded m: OnRoundEnded(m); break;
            case SpeedChanged m: OnSpeedChanged(m); break;
            case OutgoingBroke m: OnOutgoingBroke(m); break;
            case OutgoingOver m: OnOutgoingOver(m); break;
            case Served m: OnServed(m); break;
            case ExpectIncoming m: OnExpectIncoming(m); break;
            case ReceiveAgain m: OnReceiveAgain(m); break;
            case IncomingFinished m: OnIncomingFinished(m); break;
            case EndIncoming: LeaveIncoming(); break;
            case ReportProgress: OnReportProgress(); break;
            case Ignore: break;
        }

        return ValueTask.CompletedTask;
    }

    private void OnReportProgress()
    {
        if (Counted(_outgoing) is { } outgoing && RouteOf(_outgoing) is { } route)
            vm.TryTell(new Progress(route.Terms.Migration, outgoing));
        if (_incoming is IncomingState.Receiving incoming)
        {
            var stats = incoming.Transfer.Snapshot();
            vm.TryTell(new Progress(incoming.Route.Migration, stats.After(incoming.Before)));
            if (incoming.Broken && stats.WireBytes > 0)
            {
                _incoming = incoming with { Broken = false };
                vm.TryTell(new PullResumed(incoming.Route.Migration));
            }
        }

        bool active = _outgoing is not OutgoingState.None || _incoming is not IncomingState.None;
        if (!active)
            StopProgress();
    }

    private void StartProgress() => _progress ??= Context.TellEvery(ProgressPeriod, new ReportProgress());

    private void StopProgress()
    {
        _progress?.Dispose();
        _progress = null;
    }

    /// <summary>Work on a quiet stream, beside the actor; its end is the answer.</summary>
    private void WithStill(IReply<bool> reply, Func<IOutgoingTransfer, CancellationToken, Task> work) => WithStill(
        reply,
        async (transfer, stopping) =>
        {
            await work(transfer, stopping);
            return true;
        });

    private void WithStill<T>(IReply<T> reply, Func<IOutgoingTransfer, CancellationToken, Task<T>> work)
    {
        if (_outgoing is not OutgoingState.Still still)
        {
            reply.Fail(NoStream());
            return;
        }

        Context.PipeToSelf<MemoryMessage>(
            async stopping =>
            {
                try
                {
                    reply.Succeed(await work(still.Transfer, stopping));
                }
                catch (Exception e) when (e is FabricException or OperationCanceledException or IOException)
                {
                    reply.Fail(Describe(e));
                }

                return new Ignore();
            },
            static ignored => ignored,
            error =>
            {
                reply.Fail(error);
                return new Ignore();
            });
    }

    private static async Task FinishAsync(IOutgoingTransfer transfer, FinishStopped m, CancellationToken stopping)
    {
        using var either = CancellationTokenSource.CreateLinkedTokenSource(m.Cancellation, stopping);
        await transfer.FinishStoppedAsync(m.Kind, m.DeviceState, either.Token);
    }

    /// <summary>Disposing joins threads and closes sockets: not on the actor's turn.</summary>
    private void ReleaseBeside(IAsyncDisposable? stream, IDisposable? door = null)
    {
        if (stream is null)
            return;
        plane.Beside(async () =>
        {
            try
            {
                await stream.DisposeAsync();
                door?.Dispose();
            }
            catch (Exception e) when (e is FabricException or IOException or ObjectDisposedException)
            {
                logger.LogWarning(e, "A page stream did not close cleanly.");
            }
        });
    }

    private TimeSpan Backoff(int attempt)
    {
        double factor = Math.Pow(2, Math.Min(attempt, 10));
        double bounded = Math.Min(MinBackoff.TotalMilliseconds * factor, MaxBackoff.TotalMilliseconds);
        return TimeSpan.FromMilliseconds(bounded * (0.5 + (random.NextDouble() / 2)));
    }

    private static IOutgoingTransfer? TransferOf(OutgoingState state) => state switch
    {
        OutgoingState.Pushing s => s.Transfer,
        OutgoingState.Still s => s.Transfer,
        OutgoingState.Serving s => s.Transfer,
        _ => null,
    };

    private static OutgoingRoute? RouteOf(OutgoingState state) => state switch
    {
        OutgoingState.Connecting s => s.Route,
        OutgoingState.Pushing s => s.Route,
        OutgoingState.Still s => s.Route,
        OutgoingState.Serving s => s.Route,
        OutgoingState.Reconnecting s => s.Route,
        _ => null,
    };

    internal static FabricError Describe(Exception e) => e switch
    {
        FabricException known => known.Error,
        OperationCanceledException => new FabricError(ErrorCodes.Cancelled, "The work was called off or ran into its deadline."),
        _ => new FabricError(ErrorCodes.Internal, e.Message),
    };
}
