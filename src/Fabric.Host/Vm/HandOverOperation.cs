// The source's side of the switch-over (docs/PROTOCOL.md §2), run beside the VM's actor from "stop vCPUs" to "Running".
// Every step that must be durable goes through the actor, which owns the ledger; every page goes through the memory actor.
using Fabric.Actors;
using Fabric.Core;
using Fabric.Host.Balloon;
using Fabric.Host.Memory;
using Fabric.Machines;
using Fabric.Transfer;
using Microsoft.Extensions.Logging;

namespace Fabric.Host.Vm;

/// <param name="lent">What the guest is to have again, where its balloon was used for this migration.</param>
internal sealed partial class HandOverOperation(
    IMachine machine, long? lent, IActorRef<VmMessage> vm, IActorRef<MemoryMessage> memory, IActorRef<BalloonMessage> balloon, TimeProvider time, ILogger logger)
{
    private static readonly TimeSpan RoundDeadline = TimeSpan.FromSeconds(60);

    /// <summary>And so much for each page of the guest: before a pull all of them may be stale at the destination, which takes one or two microseconds to give one back.</summary>
    private static readonly TimeSpan PageDeadline = TimeSpan.FromMicroseconds(5);
    private static readonly TimeSpan BalloonDeadline = TimeSpan.FromSeconds(5);
    private static readonly TimeSpan RecordDeadline = TimeSpan.FromSeconds(10);
    private static readonly TimeSpan TokenDeadline = TimeSpan.FromSeconds(30);

    // Timestamps of the steps, for the record of where the guest's pause went.
    private long _stood;
    private long _stopped;
    private long _saved;
    private long _ready;

    /// <param name="stopLimit">Longest time that the guest may stand before the token has left; then the hand-over is called off.</param>
    internal async Task<HandOverOutcome> RunAsync(MigrationId migration, Epoch epoch, HandOverKind kind, TimeSpan stopLimit, CancellationToken cancellation)
    {
        try
        {
            await memory.AskAsync<MemoryMessage, bool>(reply => new StopRounds(kind, reply), RoundDeadline + (machine.Spec.PageCount * PageDeadline), time, cancellation);
            // The size that the guest is to have travels in its device state: it stops with an order that it carries out wherever it goes on, and no crash from here on can leave it small.
            // Not earlier: it would use its memory again. What it is given back are holes until it does.
            if (lent is { } bytes)
                await balloon.AskAsync<BalloonMessage, bool>(reply => new GiveBack(machine, bytes, reply), BalloonDeadline, time, cancellation);
            using var deadline = new CancellationTokenSource(stopLimit, time);
            using var either = CancellationTokenSource.CreateLinkedTokenSource(cancellation, deadline.Token);
            await StopAndCopyAsync(migration, epoch, kind, stopLimit, either.Token);
        }
        catch (Exception e) when (e is FabricException or OperationCanceledException or IOException)
        {
            return new HandOverOutcome.NotSent(MemoryActor.Describe(e));
        }

        try
        {
            long runs = await memory.AskAsync<MemoryMessage, long>(reply => new PassToken(epoch, reply), TokenDeadline, time, CancellationToken.None);
            // An upper bound: it counts the way of the word that they run.
            var downtime = time.GetElapsedTime(_stood, runs);
            LogPassed(
                machine.Spec.Name.Value, downtime.TotalMilliseconds, Ms(_stood, _stopped), Ms(_stopped, _saved), Ms(_saved, _ready), Ms(_ready, runs));
            return new HandOverOutcome.Passed(downtime);
        }
        catch (Exception e) when (e is FabricException or OperationCanceledException or IOException)
        {
            return new HandOverOutcome.Unknown(MemoryActor.Describe(e));
        }
    }

    /// <summary>Returns when the destination would accept the token and <c>token-sent</c> is durable here.</summary>
    private async Task StopAndCopyAsync(MigrationId migration, Epoch epoch, HandOverKind kind, TimeSpan stopLimit, CancellationToken cancellation)
    {
        long began = _stood = time.GetTimestamp();
        var state = await machine.StopAndSaveAsync(releaseDisks: true, cancellation);
        _stopped = time.GetTimestamp();
        if (machine.StandsSince is { } stands && stands > began && stands < _stopped)
            _stood = stands;
        var finished = memory.AskAsync<MemoryMessage, bool>(reply => new FinishStopped(kind, state, reply, cancellation), stopLimit, time, cancellation);
        try
        {
            // Written while the destination takes the last pages and loads: the sync costs the guest nothing.
            await state;
            _saved = time.GetTimestamp();
            await vm.AskAsync<VmMessage, bool>(reply => new RecordTokenSent(migration, epoch, reply), RecordDeadline, time, cancellation);
        }
        catch
        {
            await ObserveAsync(finished);
            throw;
        }

        await finished;
        _ready = time.GetTimestamp();
    }

    /// <summary>The stream must be out of the way before the VM is continued; its own failure adds nothing to the first one.</summary>
    private static async Task ObserveAsync(Task finished)
    {
        try
        {
            await finished;
        }
        catch (Exception e) when (e is FabricException or OperationCanceledException or IOException)
        {
            // The first failure is the one that is reported.
        }
    }

    private double Ms(long from, long to) => time.GetElapsedTime(from, to).TotalMilliseconds;

    [LoggerMessage(Level = LogLevel.Information, Message = "VM {Vm} was handed over in {Downtime:0.0} ms: stop {Stop:0.0}, save {Save:0.0}, rest and load {Ready:0.0}, token and resume {Resume:0.0}")]
    private partial void LogPassed(string vm, double downtime, double stop, double save, double ready, double resume);
}
