using System.Text.Json;
using Fabric.Core;
using Fabric.Native;

namespace Fabric.Machines.Qemu;

/// <summary>
/// Holds the vCPU threads of a QEMU process back by a limit that the kernel keeps (docs/decisions/0009-pre-copy-that-ends.md). The limit belongs to the threads and outlives this agent:
/// adoption lifts it.
/// </summary>
internal sealed class QemuThrottle(QmpSession qmp, ProcessHandle process, QemuOptions options) : IThrottle
{
    private readonly Lock _gate = new();
    private int _lifts;

    public async ValueTask SetAsync(int percent, CancellationToken cancellation)
    {
        int lifts;
        lock (_gate)
            lifts = _lifts;
        var threads = ThreadsOf(await qmp.ExecuteAsync("query-cpus-fast", null, options.CommandDeadline, cancellation));
        lock (_gate)
        {
            if (lifts != _lifts)
                return;
            try
            {
                foreach (int thread in threads)
                    CpuLimit.Set(thread, percent);
            }
            catch (FabricException)
            {
                LiftThreads();
                throw;
            }
        }
    }

    public void Lift()
    {
        lock (_gate)
        {
            _lifts++;
            LiftThreads();
        }
    }

    // A thread's number may be another's only after its process ended, which the pidfd knows.
    private void LiftThreads()
    {
        if (!process.HasExited)
            CpuLimit.LiftAll(process.Identity.ProcessId);
    }

    /// <summary>One thread may run several vCPUs (TCG without threads of its own).</summary>
    internal static IReadOnlyList<int> ThreadsOf(JsonElement answer)
    {
        var threads = new List<int>();
        if (answer.ValueKind == JsonValueKind.Array)
        {
            foreach (var cpu in answer.EnumerateArray())
            {
                if (QmpJson.Number(cpu, "thread-id") is > 0 and <= int.MaxValue and var thread && !threads.Contains((int)thread))
                    threads.Add((int)thread);
            }
        }

        return threads.Count > 0 ? threads : throw new FabricException(ErrorCodes.MachineFailed, "QEMU answered 'query-cpus-fast' without a thread.");
    }
}
