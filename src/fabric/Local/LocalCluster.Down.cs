using Fabric.Core;
using Fabric.Native;
using Fabric.Wire.Api;

namespace Fabric.Cli.Local;

/// <summary>Taking a cluster down, whatever state it is in: every step has a deadline and none depends on the one before.</summary>
public sealed partial class LocalCluster
{
    private static readonly TimeSpan DeleteWithin = TimeSpan.FromSeconds(15);
    private static readonly TimeSpan TerminateWithin = TimeSpan.FromSeconds(10);
    private static readonly TimeSpan KillWithin = TimeSpan.FromSeconds(10);

    /// <summary>
    /// Deletes the VMs through their agents, ends the daemons, ends what hypervisors are left, removes memory files and the cluster's files.
    /// </summary>
    /// <returns>What is still there in spite of all that, in words; empty when nothing is.</returns>
    public async Task<IReadOnlyList<string>> DownAsync(Action<string> say, CancellationToken cancellation)
    {
        ArgumentNullException.ThrowIfNull(say);
        await DeleteVmsAsync(say, cancellation);
        var ports = Ports();

        // Hosts first: a host that loses its control node would only log that it did.
        await EndAllAsync([.. _record.Members.Where(m => m.Role == "host")], cancellation);
        await EndAllAsync([.. _record.Members.Where(m => m.Role != "host")], cancellation);
        await EndStoreAsync(kill: false, cancellation);
        await KillMachinesAsync(say, cancellation);
        foreach (string file in LeftOvers.MemoryFiles(_record.MemoryDirectory, _record.MemoryPrefix))
            RemoveEntry(file);
        var left = await FindLeftAsync(ports);
        if (left.Count == 0)
            RemoveFiles();
        return left;
    }

    private async Task DeleteVmsAsync(Action<string> say, CancellationToken cancellation)
    {
        var alive = Controls.Zip(ApiUrls).Where(c => ProcessOf(c.First) is not null).Select(static c => c.Second).ToList();
        if (alive.Count == 0)
            return;
        using var deadline = new CancellationTokenSource(DeleteWithin, _time);
        using var either = CancellationTokenSource.CreateLinkedTokenSource(cancellation, deadline.Token);
        using var client = new ControlClient(alive, _time, new Random());
        try
        {
            var vms = await client.VmsAsync(either.Token);
            await Task.WhenAll(vms.Select(vm => client.DeleteVmAsync(vm.Name, force: true, either.Token)));
        }
        catch (Exception unable) when (unable is FabricException || (unable is OperationCanceledException && !cancellation.IsCancellationRequested))
        {
            // A VM in the middle of a move, or a dead agent: its process is found and ended below.
            say($"Not all VMs were deleted by their agents ({unable.Message}); ending their processes.");
        }
    }

    private async Task EndAllAsync(IReadOnlyList<MemberRecord> members, CancellationToken cancellation)
    {
        var alive = members.Select(m => m.Process is { } identity ? ProcessHandle.TryOpen(identity) : null).OfType<ProcessHandle>().ToList();
        try
        {
            alive.ForEach(p => p.SendTerminate());
            var slow = await StillAliveAsync(alive, TerminateWithin, cancellation);
            slow.ForEach(p => p.SendKill());
            await StillAliveAsync(slow, KillWithin, cancellation);
        }
        finally
        {
            alive.ForEach(p => p.Dispose());
        }
    }

    private async Task<List<ProcessHandle>> StillAliveAsync(List<ProcessHandle> processes, TimeSpan within, CancellationToken cancellation)
    {
        if (processes.Count == 0)
            return processes;
        using var watch = new DeathWatch();
        try
        {
            await Task.WhenAll(processes.Select(watch.WhenExited)).WaitAsync(within, _time, cancellation);
        }
        catch (TimeoutException)
        {
            // The caller goes on with those that are left.
        }

        return [.. processes.Where(p => !p.HasExited)];
    }

    private async Task KillMachinesAsync(Action<string> say, CancellationToken cancellation)
    {
        var machines = Machines().Select(ProcessHandle.TryOpen).OfType<ProcessHandle>().ToList();
        try
        {
            if (machines.Count > 0)
                say($"Ending {machines.Count} left QEMU processes: {string.Join(", ", machines.Select(m => m.Identity.ProcessId))}");
            machines.ForEach(m => m.SendKill());
            await StillAliveAsync(machines, KillWithin, cancellation);
        }
        finally
        {
            machines.ForEach(m => m.Dispose());
        }
    }

    private IReadOnlyList<ProcessIdentity> Machines() => LeftOvers.Machines(Directory, _record.MemoryDirectory, _record.MemoryPrefix);

    /// <summary>Addresses that members serve on, read before they end.</summary>
    private List<Uri> Ports()
    {
        var urls = new List<Uri>();
        foreach (var member in _record.Members)
        {
            if (ReadyFile.Read(MemberConfig.State(Directory, member.Name)) is { } ready)
                urls.AddRange(new[] { ready.ApiUrl, ready.ClusterUrl, ready.AgentUrl, ready.Data }.OfType<Uri>());
        }

        if (_record.Store is { } store)
            urls.Add(new UriBuilder("tcp", "127.0.0.1", store.Port).Uri);
        return urls;
    }

    private async Task<IReadOnlyList<string>> FindLeftAsync(List<Uri> ports)
    {
        var left = new List<string>();
        left.AddRange(_record.Members.Where(m => m.Process?.IsAlive() == true).Select(m => $"fabricd of {m.Name} (pid {m.Process!.ProcessId})"));
        if (Store is { } store)
            left.AddRange(store.Servers().Select(static s => $"PostgreSQL server (pid {s.ProcessId})"));
        left.AddRange(Machines().Select(m => $"QEMU process {m.ProcessId}"));
        left.AddRange(LeftOvers.MemoryFiles(_record.MemoryDirectory, _record.MemoryPrefix).Select(f => $"memory file {f}"));
        foreach (var url in ports)
        {
            if (await LeftOvers.ListensAsync(url.Host, url.Port, _time))
                left.Add($"a listener on {url.Host}:{url.Port}");
        }

        return left;
    }

    /// <summary>Only what this class and its members made; other files in the directory, and then the directory, stay.</summary>
    private void RemoveFiles()
    {
        foreach (var member in _record.Members)
            RemoveEntry(MemberConfig.Root(Directory, member.Name));
        foreach (string suffix in new[] { "", "-wal", "-shm" })
            File.Delete(MemberConfig.SharedJournal(Directory) + suffix);
        if (_record.Store is { } store)
            RemoveEntry(store.Directory);
        File.Delete(StoreLog(Directory));
        File.Delete(StorePassword(Directory));
        File.Delete(ClusterFile.PathIn(Directory) + ".new");
        File.Delete(ClusterFile.PathIn(Directory));
        if (System.IO.Directory.Exists(Directory) && !System.IO.Directory.EnumerateFileSystemEntries(Directory).Any())
            System.IO.Directory.Delete(Directory);
    }

    private static void RemoveEntry(string path)
    {
        if (System.IO.Directory.Exists(path))
            System.IO.Directory.Delete(path, recursive: true);
        else
            File.Delete(path);
    }
}
