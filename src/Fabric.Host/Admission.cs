// What VMs take of their host: memory, and places among the moves that come in and go out. A VM's actor asks before it takes anything, and its share is counted from that
// moment; at the end of each of its turns the share becomes what its ledger and its machine say. So two VMs that ask at once never get the same memory or place:
//
//   actor's turn:   Enter… (checked and counted under the lock) ──▶ ledger, machine ──▶ Show (what is true now)
//
// The limits come with the command, from the plan of the evacuation that asked. They are judged here, at the host, because only the host knows what every control node has sent it.
using Fabric.Core;
using Fabric.Host.Ledger;
using Fabric.Migration;

namespace Fabric.Host;

/// <summary>Any thread; one short lock.</summary>
/// <param name="host">Whose memory and places these are.</param>
/// <param name="memoryBytes">All that guests may take, or null: not limited.</param>
internal sealed class Admission(HostName host, long? memoryBytes)
{
    private readonly Lock _gate = new();
    private readonly Dictionary<VmName, Share> _shares = []; // under _gate

    /// <summary>Bytes that guests may still take, or null when no limit was set.</summary>
    internal long? MemoryFree()
    {
        lock (_gate)
            return Free();
    }

    /// <summary>A machine with this much memory will be made here.</summary>
    /// <exception cref="FabricException">exhausted: the memory is not there.</exception>
    internal void Enter(VmSpec spec)
    {
        lock (_gate)
            Take(spec, null);
    }

    /// <summary>As <see cref="Enter"/>, for a VM that moves here from <paramref name="source"/>.</summary>
    /// <exception cref="FabricException">exhausted; or busy: as many moves come in as the limits allow, ask again.</exception>
    internal void EnterIncoming(VmSpec spec, HostName source, BatchLimits? limits)
    {
        lock (_gate)
        {
            if (limits is not null)
                RequirePlace(spec.Name, "in", "from", source, static share => share.From, limits.PerDestination, limits.PerLink);
            Take(spec, source);
        }
    }

    /// <summary>A VM that runs here moves to <paramref name="destination"/>.</summary>
    /// <exception cref="FabricException">busy: as many moves go out as the limits allow, ask again.</exception>
    internal void EnterOutgoing(VmName vm, HostName destination, BatchLimits? limits)
    {
        lock (_gate)
        {
            if (limits is not null)
                RequirePlace(vm, "out", "to", destination, static share => share.To, limits.PerSource, limits.PerLink);
            _shares[vm] = _shares.GetValueOrDefault(vm) with { To = destination };
        }
    }

    /// <summary>
    /// What the VM takes from now on, as its actor says at the end of a turn. <paramref name="stalled"/>: an outgoing migration that cannot go on by itself; its VM may be
    /// lost and its source kept until an operator deletes it, and takes nobody's place.
    /// </summary>
    internal void Show(VmName vm, VmFact? fact, VmLedgerState? ledger, MigrationId? stalled = null)
    {
        var share = new Share(
            fact is null or { State: VmRunState.Exited } ? 0 : fact.Spec.MemoryBytes,
            ledger?.Incoming is { Step: IncomingStep.Expected or IncomingStep.Accepted } incoming ? incoming.Source : null,
            ledger?.Outgoing is { Phase: SourcePhase.Pushing or SourcePhase.HandingOver or SourcePhase.TokenSent or SourcePhase.HandedOver } outgoing && outgoing.Migration != stalled
                ? outgoing.Destination
                : null);
        lock (_gate)
        {
            if (share == default)
                _shares.Remove(vm);
            else
                _shares[vm] = share;
        }
    }

    private void RequirePlace(VmName vm, string way, string preposition, HostName peer, Func<Share, HostName?> peerOf, int most, int mostOfLink)
    {
        int moves = _shares.Values.Count(share => peerOf(share) is not null);
        int link = _shares.Values.Count(share => peerOf(share) == peer);
        if (moves < most && link < mostOfLink)
            return;
        throw new FabricException(
            ErrorCodes.Busy,
            $"Host {host} takes no part in another move now: {moves} VMs are moving {way}, {link} of them {preposition} '{peer}'; allowed are {most} and {mostOfLink}.",
            $"Wait: '{vm}' moves when there is room.");
    }

    private void Take(VmSpec spec, HostName? from)
    {
        // What the control node knew of this host when it sent the command may be seconds old.
        if (Free() is { } free && free < spec.MemoryBytes)
            throw new FabricException(ErrorCodes.Exhausted, $"Host {host} has {ByteSize.Format(free)} for guests; VM '{spec.Name}' needs {ByteSize.Format(spec.MemoryBytes)}.", "Choose another host.");
        var share = _shares.GetValueOrDefault(spec.Name);
        _shares[spec.Name] = share with { Bytes = share.Bytes + spec.MemoryBytes, From = from ?? share.From };
    }

    private long? Free() => memoryBytes is { } all ? Math.Max(0, all - _shares.Values.Sum(static share => share.Bytes)) : null;

    /// <summary><paramref name="From"/>: the VM moves in from there; <paramref name="To"/>: it moves out to there.</summary>
    private readonly record struct Share(long Bytes, HostName? From, HostName? To);
}
