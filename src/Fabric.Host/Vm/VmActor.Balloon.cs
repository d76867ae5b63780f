using Fabric.Actors;
using Fabric.Core;
using Fabric.Host.Balloon;
using Fabric.Host.Ledger;
using Fabric.Host.Memory;
using Fabric.Machines;
using Fabric.Migration;
using Microsoft.Extensions.Logging;

namespace Fabric.Host.Vm;

/// <summary>
/// The guest's balloon around a migration. What is taken is owed: the ledger says so before the first page is asked for and until the guest was told to take it back. A guest that goes on
/// elsewhere was told before it stopped (<see cref="HandOverOperation"/>); one that stays here is told by this actor, again and again, and by the next agent if this one dies. Of a VM with a
/// loop of its own nothing is owed: the loop goes on wherever the VM does.
/// </summary>
internal sealed partial class VmActor
{
    private static readonly TimeSpan TakeDeadline = TimeSpan.FromSeconds(15);
    private static readonly TimeSpan GiveBackDeadline = TimeSpan.FromSeconds(10);
    private static readonly TimeSpan GiveBackRetry = TimeSpan.FromSeconds(1);

    private async ValueTask OnSetBalloonAsync(SetBalloon c, IReply<CommandResult> reply)
    {
        var machine = _live.Machine ?? throw new FabricException(ErrorCodes.NotFound, $"VM '{name}' has no machine on host {parts.Host}.");
        if (machine.Spec.Balloon is not null)
            throw new FabricException(ErrorCodes.Conflict, $"VM '{name}' keeps its balloon by itself.", "Only a VM that was created without --balloon steady can be given a size.");
        if (Recorded.Outgoing is { Lent: not null } outgoing)
            throw new FabricException(ErrorCodes.Conflict, $"The balloon of VM '{name}' is in use for migration {outgoing.Migration}.", "Ask again when the migration is over.");
        await _balloon.AskAsync<BalloonMessage, bool>(answer => new SetTarget(machine, c.Bytes, answer), MachineDeadline, Context.Time, Context.Stopping);
        Ledger.Append(new VmRecord.Answered(c.Header.Id, null));
        reply.Succeed(new CommandResult(c.Header.Id, null));
    }

    /// <summary>
    /// Tells the loop of a VM that has one what it may do, by what is true after this turn: it takes while the VM runs here and nothing else is done with its memory. What it has taken stays
    /// taken over a move, so it is not owed: the loop at the other side finds it.
    /// </summary>
    private void DirectBalloon()
    {
        if (_live.Machine is not { Spec.Balloon: not null } machine || _ledger is null)
        {
            _live.BalloonDirected = null;
            return;
        }

        var duty = Recorded switch
        {
            { Owner: false } => BalloonDuty.Rest,
            _ when _live.RunState != VmRunState.Running => BalloonDuty.Rest,
            { Outgoing.Phase: SourcePhase.Pushing } or { Incoming.Step: IncomingStep.Accepted } => BalloonDuty.Watch,
            { Outgoing: { Ended: false } } => BalloonDuty.Rest,
            _ => BalloonDuty.Keep,
        };
        var direct = new Direct(machine, duty);
        if (direct != _live.BalloonDirected && _balloon.TryTell(direct))
            _live.BalloonDirected = direct;
    }

    /// <summary>After a look at the guest, of two seconds at most, and perhaps the end of one before it. One that cannot be ballooned is moved as it is.</summary>
    private async ValueTask<bool> MayTakeAsync(MigrationOptions options, IMachine machine)
    {
        if (options.Balloon == BalloonUse.Off)
            return false;
        try
        {
            return await _balloon.AskAsync<BalloonMessage, bool>(answer => new MayTake(machine, answer), GiveBackDeadline, Context.Time, Context.Stopping);
        }
        catch (FabricException e)
        {
            _logger.LogWarning("VM {Vm} is moved with the memory that it has: {Error}", name, e.Error);
            return false;
        }
    }

    /// <summary>Beside the actor; whatever comes of it, the push begins afterwards.</summary>
    private void TakeMemory(MigrationId migration, IMachine machine) => Context.PipeToSelf<VmMessage>(
        async stopping =>
        {
            await _balloon.AskAsync<BalloonMessage, long>(answer => new TakeFree(machine, answer), TakeDeadline, Context.Time, stopping);
            return new MemoryTaken(migration);
        },
        static taken => taken,
        _ => new MemoryTaken(migration));

    private void OnMemoryTaken(MemoryTaken m)
    {
        if (Recorded.Outgoing is { Phase: SourcePhase.Pushing } outgoing && outgoing.Migration == m.Migration && _live.Machine is { } machine)
            BeginToPush(machine);
    }

    private void BeginToPush(IMachine machine) =>
        _memory.TryTell(new BeginPush(Route(Recorded.Outgoing!, resume: false), Recorded.Outgoing!.Options, machine.Memory, machine.Throttle));

    /// <summary>While the VM is here to stay. Giving back twice is harmless.</summary>
    private void GiveBackWhatIsLent()
    {
        if (_live.GivingBack || _live.Machine is not { } machine || Recorded is not { Owner: true, Outgoing: { Lent: { } bytes, Ended: true } outgoing })
            return;
        _live.GivingBack = true;
        Context.PipeToSelf<VmMessage>(
            async stopping =>
            {
                await _balloon.AskAsync<BalloonMessage, bool>(answer => new GiveBack(machine, bytes, answer), GiveBackDeadline, Context.Time, stopping);
                return new MemoryGivenBack(outgoing.Migration, null);
            },
            static given => given,
            error => new MemoryGivenBack(outgoing.Migration, error));
    }

    /// <summary>A guest waits for this memory, so there is no last attempt; the pause between two is fixed.</summary>
    private void OnMemoryGivenBack(MemoryGivenBack m)
    {
        _live.GivingBack = false;
        if (m.Error is { } error)
        {
            _logger.LogWarning("VM {Vm} could not be told that it has its memory back: {Error}", name, error);
            Context.TellAfter(GiveBackRetry, new GiveBackAgain());
        }
        else if (Recorded is { Owner: true, Outgoing: { Lent: not null, Ended: true } outgoing } && outgoing.Migration == m.Migration)
        {
            Ledger.Append(new VmRecord.MemoryReturned(m.Migration));
        }
    }
}
