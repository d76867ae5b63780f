using System.Globalization;
using Fabric.Core;
using Fabric.Host.Ledger;
using Fabric.Migration;
using Fabric.Simulation.Machines;
using Fabric.Simulation.Processes;
using Fabric.Simulation.Worlds;

namespace Fabric.Simulation.Checks;

/// <summary>
/// Watches from outside: machines, ledgers and the journal themselves, never what the system says of itself. The first violation ends the run.
/// Invariants are numbered as in docs/TESTING.md.
/// </summary>
internal sealed class Observer(World world)
{
    private readonly List<GuestLife> _lives = [];
    private readonly Dictionary<VmName, List<SimMachine>> _disks = [];
    private readonly Dictionary<VmName, HashSet<HostName>> _owners = [];
    private readonly Dictionary<VmName, Epoch> _granted = [];
    private readonly HashSet<(HostName, CommandId)> _answered = [];
    private readonly HashSet<(SimProcess, CommandId)> _begun = [];
    private readonly HashSet<string> _recordedMachines = [];

    internal IReadOnlyList<GuestLife> Lives => _lives;

    internal string? Violation { get; private set; }

    internal JournalWatch Journal { get; } = new(world);

    internal MembershipWatch Members { get; } = new(world);

    internal MoveWatch Moves { get; } = new(world);

    /// <summary>VMs that an operator asked to delete, by force or not: whatever is left of them may be anywhere.</summary>
    internal HashSet<VmName> Deleted { get; } = [];

    internal void Violated(string invariant, string what)
    {
        Violation ??= string.Create(CultureInfo.InvariantCulture, $"{invariant} at {world.Now.TotalSeconds:0.000} s: {what}");
        world.Trace($"VIOLATION {invariant}: {what}");
    }

    internal void Broke(string process, Exception e)
    {
        if (e is not (FabricException or OperationCanceledException))
            Violated("crash", $"{process}: {e}");
        else
            world.Trace($"{process} gave up: {e.Message}");
    }

    internal Guest Born(VmSpec spec)
    {
        var chance = world.Chance;
        int working = chance.Between(8, 150);
        double rate = chance.Below(3) switch { 0 => 5, 1 => 120, _ => 1500 };
        var life = new GuestLife(_lives.Count, spec.Name, working, working + 1 + chance.Between(0, 60), rate);
        _lives.Add(life);
        return new Guest(life, life.Working, life.PresentPages, life.StepsPerSecond);
    }

    internal void MachineStarted(SimMachine machine)
    {
        long taken = machine.Host.Machines.Sum(static m => m.Spec.MemoryBytes);
        if (taken > machine.Host.MemoryBytes)
            Violated("I10", $"host {machine.Host.Name} has {taken} bytes of guests and room for {machine.Host.MemoryBytes}");
        if (machine.Host.Machines.Count(m => m.Spec.Name == machine.Spec.Name) > 1)
            Violated("I7", $"host {machine.Host.Name} has two machines of {machine.Spec.Name}");
        world.Trace($"{machine} is started");
    }

    internal void Runs(SimMachine machine, Guest guest)
    {
        var life = guest.Life;
        life.Running.Add(machine);
        life.StandsSince = null;
        life.QuietPause = TimeSpan.Zero;
        world.Trace($"{machine} runs at step {guest.Steps}");
        if (life.Running.Count > 1)
            Violated("I1", $"{life.Vm} runs at {string.Join(" and ", life.Running)}");
        if (_lives.Find(other => other != life && other.Vm == life.Vm && other.Running.Count > 0 && other.GoneBy is null && !Deleted.Contains(life.Vm)) is { } twin)
            Violated("I1", $"{life.Vm} runs at {machine} and, as another guest, at {string.Join(" and ", twin.Running)}");
        if (guest.Steps < life.Reached)
            Violated("I3", $"{machine} goes on from step {guest.Steps}; the guest had reached {life.Reached}");
        if (life.GoneBy is { } gone && !gone.StartsWith("deleted", StringComparison.Ordinal) && guest.Steps < life.Reached)
            Violated("I3", $"{machine} runs a guest that is gone: {gone}");
    }

    internal void Stands(SimMachine machine, Guest guest)
    {
        guest.Life.Running.Remove(machine);
        guest.Life.Reached = Math.Max(guest.Life.Reached, guest.Steps);
        guest.Life.StandsSince ??= world.Now;
        world.Trace($"{machine} stands at step {guest.Steps}");
    }

    internal void TookDisk(SimMachine machine)
    {
        var holders = Holders(machine.Spec.Name);
        holders.Add(machine);
        if (holders.Count > 1 && !Deleted.Contains(machine.Spec.Name))
            Violated("I2", $"the disk of {machine.Spec.Name} is held by {string.Join(" and ", holders)}");
    }

    internal void LeftDisk(SimMachine machine) => Holders(machine.Spec.Name).Remove(machine);

    internal void MachineEnded(SimMachine machine, bool ran, bool fault, string how)
    {
        world.Trace($"{machine} ends: {how}");
        if (machine.Guest is not { } guest)
            return;
        var life = guest.Life;
        life.Running.Remove(machine);
        life.Reached = Math.Max(life.Reached, guest.Steps);
        bool elsewhere = world.Hosts.SelectMany(static h => h.Machines)
            .Any(m => m != machine && m.Guest is { } copy && copy.Life == life && copy.Steps >= life.Reached && m.Missing.IsEmpty);
        // A copy that died while nobody knew who may run: if the other never may, this is what took the guest.
        if (fault && !ran && elsewhere)
            life.CopyLostBy = how;
        bool needed = ran || !elsewhere || (fault && machine.Host.Disk.Replay(machine.Spec.Name).Owner);
        if (life.GoneBy is not null || !needed)
            return;
        if (!_recordedMachines.Contains(machine.Id))
            life.GoneBy = "never created: no ledger named it";
        else if (Deleted.Contains(life.Vm))
            life.GoneBy = "deleted";
        else if (fault && how != "no ledger names it")
            life.GoneBy = $"a fault: {how}";
        else if (life.CopyLostBy is { } fate && machine.Host.Disk.Replay(machine.Spec.Name).Incoming is { Step: IncomingStep.Refused })
            life.GoneBy = $"a fault: {fate}";
        else
            Violated("I3", $"{machine}, which {life.Vm} needed, was ended by the system ({how}) and nobody asked for it");
    }

    /// <summary>True when the host's ledger had seen a higher shard epoch than the command's when it came, and this life of the agent nothing of this command from an owner that was not outdone.</summary>
    internal bool IsStale(SimHost host, AgentCommand sent)
    {
        if (sent.Header.ShardEpoch >= ShardSeen(host, sent.Header.Vm).Epoch)
        {
            _begun.Add((host.Process!, sent.Header.Id));
            return false;
        }

        return !_begun.Contains((host.Process!, sent.Header.Id)) && host.Disk.Replay(sent.Header.Vm).AnswerTo(sent.Header.Id) is null;
    }

    /// <summary>The highest shard epoch of a VM that a host has obeyed, by what is on its disk: a record may be lost with the power, or with the agent that wrote it.</summary>
    internal static (Epoch Epoch, Guid Term) ShardSeen(SimHost host, VmName vm)
    {
        var ledger = host.Disk.Replay(vm);
        return (ledger.ShardEpoch, ledger.ShardTerm);
    }

    internal void Sent(SimNode node, HostName host, AgentCommand command)
    {
        world.Trace($"{node.Name} → {host}: {command.GetType().Name} of {command.Header.Vm} (shard epoch {command.Header.ShardEpoch}, run epoch {command.Header.RunEpoch})");
        Journal.RequireIntent(node, command);
    }

    internal void Executed(SimHost host, AgentCommand sent, CommandResult result, bool stale)
    {
        world.Trace($"{host.Name} answers {sent.GetType().Name} of {sent.Header.Vm}: {result.Error?.ToString() ?? "done"}");
        // An agent that has not found its machines again, or whose ledger failed, refuses before it looks at epochs.
        if (stale && result.Error is not { Code: ErrorCodes.RefusedByEpoch or ErrorCodes.Conflict or ErrorCodes.StoreFailed })
            Violated("I5", $"{host.Name} judged {sent.GetType().Name} of {sent.Header.Vm} for shard epoch {sent.Header.ShardEpoch}, after a higher one: {result.Error?.ToString() ?? "done"}");
    }

    internal void Recorded(SimHost host, VmName vm, VmRecord record, VmLedgerState state)
    {
        world.Trace($"{host.Name} records of {vm}: {VmRecord.KindOf(record)}");
        switch (record)
        {
            case VmRecord.Answered r when !_answered.Add((host.Name, r.Command)):
                Violated("I7", $"{host.Name} executed command {r.Command} of {vm} twice");
                break;
            case VmRecord.MachineStarted r: _recordedMachines.Add(r.Adoption); break;
            case VmRecord.Owned r: Grant(host, vm, r.Epoch); break;
            case VmRecord.Accepted r: Grant(host, vm, r.Epoch); break;
            case VmRecord.TakenBack r: Grant(host, vm, r.Epoch); break;
        }

        Moves.Recorded(host, vm, record);
        if (!_owners.TryGetValue(vm, out var owners))
            _owners[vm] = owners = [];
        if (!state.Owner)
            owners.Remove(host.Name);
        else if (owners.Add(host.Name) && owners.Count > 1 && !Deleted.Contains(vm))
            Violated("I1", $"by their ledgers {vm} belongs to {string.Join(" and ", owners)}");
    }

    /// <summary>Once a second of world time: whoever stands while nothing is wrong stands too long at some point.</summary>
    internal void Tick(TimeSpan passed, bool quiet)
    {
        foreach (var life in _lives)
        {
            foreach (var machine in life.Running)
                machine.Advance();
            if (!quiet || life.GoneBy is not null || life.StandsSince is null || Deleted.Contains(life.Vm))
                continue;
            life.QuietPause += passed;
            if (life.QuietPause > World.LongestPause)
                Violated("I9", $"{life.Vm} stands since {life.StandsSince.Value.TotalSeconds:0} s, for {life.QuietPause.TotalSeconds:0} s of it nothing was wrong");
        }
    }

    private void Grant(SimHost host, VmName vm, Epoch epoch)
    {
        if (epoch <= _granted.GetValueOrDefault(vm) && !Deleted.Contains(vm))
            Violated("I5", $"{host.Name} takes the right to run {vm} at epoch {epoch}; {_granted[vm]} was granted before");
        _granted[vm] = epoch;
    }

    private List<SimMachine> Holders(VmName vm)
    {
        if (!_disks.TryGetValue(vm, out var holders))
            _disks[vm] = holders = [];
        return holders;
    }
}
