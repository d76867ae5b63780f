using System.Text.Json;
using Fabric.Core;
using Fabric.Host.Ledger;
using Fabric.Simulation.Processes;
using Fabric.Simulation.Worlds;

namespace Fabric.Simulation.Stores;

/// <summary>
/// A host's disk as far as its ledgers go: lines that are synced, and lines that are written and would be lost with the host's power. Whatever agent lives
/// reads it through a <see cref="LedgerStore"/> of its own.
/// </summary>
internal sealed class LedgerDisk(SimHost host)
{
    private readonly SortedDictionary<string, VmLines> _vms = new(StringComparer.Ordinal);

    internal SimHost Host => host;

    /// <summary>World time until which every append fails.</summary>
    internal TimeSpan FullUntil { get; set; }

    /// <summary>Appends until one fails once, whether or not its lines are on disk; 0: none.</summary>
    internal int FailAfter { get; set; }

    internal bool FailedLineStays { get; set; }

    /// <summary>What happens at an append that is still so many appends away: the agent dies, before or after its lines are on disk.</summary>
    internal (int After, bool Written, bool Power)? DieAt { get; set; }

    internal IEnumerable<string> Names => _vms.Keys;

    /// <summary>The ledger of each VM as the last agent that opened it has it.</summary>
    internal Dictionary<VmName, IVmLedger> Opened { get; } = [];

    internal VmLines Lines(VmName vm)
    {
        if (!_vms.TryGetValue(vm.Value, out var lines))
            _vms[vm.Value] = lines = new VmLines();
        return lines;
    }

    internal void LosePower()
    {
        foreach (var lines in _vms.Values)
            lines.Lose();
    }

    /// <summary>The state that a ledger adds up to, read as a restarted agent would.</summary>
    /// <exception cref="FabricException">corrupt: a line contradicts the ones before it.</exception>
    internal VmLedgerState Replay(VmName vm)
    {
        try
        {
            return Lines(vm).All.Aggregate(VmLedgerState.Empty, static (state, line) => state.Apply(Read(line)));
        }
        catch (LedgerContradictionException e)
        {
            throw new FabricException(ErrorCodes.Corrupt, e.Message);
        }
    }

    internal static byte[] Write(VmRecord record) => JsonSerializer.SerializeToUtf8Bytes(record, LedgerJson.Default.VmRecord);

    internal static VmRecord Read(byte[] line) => JsonSerializer.Deserialize(line, LedgerJson.Default.VmRecord)!;
}

/// <summary>One VM's ledger file.</summary>
internal sealed class VmLines
{
    private readonly List<byte[]> _lines = [];
    private int _synced;

    internal IReadOnlyList<byte[]> All => _lines;

    internal void Add(byte[] line) => _lines.Add(line);

    internal void Sync() => _synced = _lines.Count;

    internal void Lose() => _lines.RemoveRange(_synced, _lines.Count - _synced);
}

/// <summary>One agent life's ledgers.</summary>
internal sealed class LedgerStore(World world, LedgerDisk disk, SimProcess agent) : ILedgerStore
{
    public IReadOnlyList<VmName> List() => [.. disk.Names.Select(VmName.Parse)];

    public IVmLedger Open(VmName vm)
    {
        if (agent.Dead)
            throw Gone();
        return disk.Opened[vm] = new Ledger(world, disk, agent, vm);
    }

    private static FabricException Gone() => new(ErrorCodes.StoreFailed, "This agent's process is gone.");

    private sealed class Ledger(World world, LedgerDisk disk, SimProcess agent, VmName vm) : IVmLedger
    {
        private bool _failed;

        public VmLedgerState State { get; private set; } = disk.Replay(vm);

        public void Append(params ReadOnlySpan<VmRecord> records)
        {
            if (agent.Dead)
                throw Gone();
            if (_failed)
                throw Failed("it failed before");
            var next = State;
            foreach (var record in records)
                next = next.Apply(record);
            var death = Countdown();
            if (death is { Written: false })
                Die(death.Value.Power);
            var lines = disk.Lines(vm);
            if (Trouble(out bool stays))
            {
                _failed = true;
                disk.Host.LedgerFailed = true;
                if (stays)
                    Put(lines, records);
                throw Failed("no space left on device");
            }

            Put(lines, records);
            if (death is { Power: var power })
                Die(power);
            State = next;
            foreach (var record in records)
                world.Observer.Recorded(disk.Host, vm, record, next);
        }

        public void Dispose()
        {
        }

        private void Put(VmLines lines, ReadOnlySpan<VmRecord> records)
        {
            foreach (var record in records)
            {
                if (!world.Plants.Drops(disk.Host, vm, record))
                    lines.Add(LedgerDisk.Write(record));
            }

            if (!world.Plants.On("forget-fsync"))
                lines.Sync();
        }

        /// <summary>Set for the append at which the agent is to die.</summary>
        private (bool Written, bool Power)? Countdown()
        {
            if (disk.DieAt is not { } at)
                return null;
            disk.DieAt = at.After > 1 ? at with { After = at.After - 1 } : null;
            return at.After > 1 ? null : (at.Written, at.Power);
        }

        private void Die(bool power)
        {
            disk.Host.DieNow(power);
            throw Gone();
        }

        private bool Trouble(out bool stays)
        {
            stays = disk.FailedLineStays;
            if (disk.FullUntil > world.Now)
                return true;
            return disk.FailAfter > 0 && --disk.FailAfter == 0;
        }

        private FabricException Failed(string why) => new(ErrorCodes.StoreFailed, $"The ledger of {vm} at {disk.Host.Name} could not be written: {why}");
    }
}
