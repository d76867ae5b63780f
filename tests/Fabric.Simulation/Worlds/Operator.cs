using Fabric.Core;
using Fabric.Migration;
using Fabric.Supervisor;
using Fabric.Wire.Api;

namespace Fabric.Simulation.Worlds;

/// <summary>Somebody with the command line: asks a control node, and the next one when that does not answer.</summary>
internal sealed class Operator(World world)
{
    private const int Tries = 6;
    private static readonly TimeSpan BetweenTries = TimeSpan.FromSeconds(1.5);

    internal void Do(Entry entry)
    {
        var vm = VmName.Parse($"vm-{entry.A % world.Plan.Vms}");
        var host = world.Hosts[entry.B % world.Hosts.Count].Name;
        var request = new Guid(entry.A, (short)entry.B, (short)entry.N, [.. BitConverter.GetBytes(entry.At.Ticks)]);
        switch (entry.Deed)
        {
            case Deed.Create:
                var spec = new VmSpec { Name = vm, Machine = MachineKind.Synthetic, MemoryBytes = World.VmBytes, Workload = "sim" };
                Ask(entry, plane => plane.CreateVmAsync(new CreateVmRequest(spec, host), CancellationToken.None));
                break;
            case Deed.Migrate:
                if (world.Observer.Journal.Vms.GetValueOrDefault(vm)?.Owner == host)
                    host = world.Hosts[(entry.B + 1) % world.Hosts.Count].Name;
                // A short downtime is hard to keep: guests are slowed down for it, and some stay where they are.
                var options = new MigrationOptions((MigrationMode)(entry.N % 4), entry.B % 2 == 0 ? 300 : 15, Verify: (VerifyLevel)(entry.A % 3), BulkConnections: 1);
                Ask(entry, plane => plane.MigrateAsync(new MigrateRequest(vm, host, options, request), CancellationToken.None));
                break;
            case Deed.Abort:
                Ask(entry, plane => AbortAsync(plane, vm));
                break;
            case Deed.Evacuate:
                var moved = new MigrationOptions((MigrationMode)(entry.N % 4), BulkConnections: 1);
                Ask(entry, plane => plane.EvacuateAsync(new EvacuateRequest(host, null, false, moved, request), CancellationToken.None));
                break;
            case Deed.Delete or Deed.DeleteByForce:
                world.Observer.Deleted.Add(vm);
                Ask(entry, plane => plane.DeleteVmAsync(vm, entry.Deed == Deed.DeleteByForce, CancellationToken.None));
                break;
            case Deed.StartNode:
                world.NodeAt(entry.A).Start();
                break;
            case Deed.Cordon or Deed.Uncordon:
                Ask(entry, plane => plane.SetCordonedAsync(host, entry.Deed == Deed.Cordon, null, CancellationToken.None));
                break;
        }
    }

    private static async Task AbortAsync(IControlPlane plane, VmName vm)
    {
        var active = (await plane.ListMigrationsAsync(CancellationToken.None)).FirstOrDefault(m => m.Vm == vm && m.TotalMs is null);
        if (active is not null)
            await plane.AbortMigrationAsync(active.Id.ToString(), "an operator", CancellationToken.None);
    }

    private void Ask(Entry entry, Func<IControlPlane, Task> question, int attempt = 0)
    {
        if (attempt == Tries)
            return;
        var node = world.Nodes[(entry.N + attempt) % world.Nodes.Count];
        if (!node.Lives)
        {
            world.After(BetweenTries, () => Ask(entry, question, attempt + 1));
            return;
        }

        node.Process!.Begin(async () =>
        {
            try
            {
                await question(node.Everywhere);
                world.Trace($"{entry.Deed} is answered by {node.Name}");
            }
            catch (FabricException e) when (e.Error.Code is ErrorCodes.Unreachable or ErrorCodes.NotFound or ErrorCodes.Conflict)
            {
                world.Trace($"{entry.Deed}: {node.Name} says {e.Error}");
                world.After(BetweenTries, () => Ask(entry, question, attempt + 1));
            }
            catch (FabricException e)
            {
                world.Trace($"{entry.Deed} is refused by {node.Name}: {e.Error}");
            }
        });
    }
}
