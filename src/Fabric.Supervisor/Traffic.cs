using System.Runtime.InteropServices;
using Fabric.Core;
using Fabric.Migration;

namespace Fabric.Supervisor;

/// <summary>
/// Migrations under way, counted by host and link as they come and go: to count them anew for each one that wants to begin would take as many looks as there are. Any thread.
/// </summary>
internal sealed class Traffic
{
    private readonly Lock _gate = new();
    private readonly Dictionary<MigrationId, (VmName Vm, Movement Movement)> _moving = []; // under _gate, as all of them
    private readonly Dictionary<VmName, int> _vms = [];
    private readonly Dictionary<HostName, int> _from = [];
    private readonly Dictionary<HostName, int> _to = [];
    private readonly Dictionary<Movement, int> _links = [];

    /// <summary>True when this state ends a migration that was under way.</summary>
    public bool Take(KnownState migration)
    {
        var plan = migration.Plan;
        lock (_gate)
        {
            // One that waits for an operator moves nothing, and must not hold up the others for as long.
            if (migration is ActiveState and not NeedsFencing)
            {
                var movement = new Movement(plan.Source, plan.Destination);
                if (_moving.TryAdd(plan.Id, (plan.Vm, movement)))
                    Add(plan.Vm, movement, 1);
                return false;
            }

            if (!_moving.Remove(plan.Id, out var ended))
                return false;
            Add(ended.Vm, ended.Movement, -1);
            return true;
        }
    }

    public bool Moves(VmName vm)
    {
        lock (_gate)
            return _vms.ContainsKey(vm);
    }

    /// <summary>Migrations with the same source, with the same destination, and with both.</summary>
    public (int From, int To, int Link) Count(Movement movement)
    {
        lock (_gate)
            return (_from.GetValueOrDefault(movement.Source), _to.GetValueOrDefault(movement.Destination), _links.GetValueOrDefault(movement));
    }

    private void Add(VmName vm, Movement movement, int change)
    {
        Add(_vms, vm, change);
        Add(_from, movement.Source, change);
        Add(_to, movement.Destination, change);
        Add(_links, movement, change);
    }

    private static void Add<TKey>(Dictionary<TKey, int> counts, TKey key, int change)
        where TKey : notnull
    {
        ref int count = ref CollectionsMarshal.GetValueRefOrAddDefault(counts, key, out _);
        count += change;
        if (count == 0)
            counts.Remove(key);
    }
}
