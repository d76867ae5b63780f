using System.Net;
using System.Net.Http.Json;
using Fabric.Chaos.Rows;
using Fabric.Cluster;
using Fabric.Core;
using Fabric.Migration;
using Fabric.Wire.Agent;
using Fabric.Wire.Api;
using Xunit;

namespace Fabric.Chaos.Cluster;

/// <summary>One VM, one migration from alpha to beta, one kill.</summary>
internal sealed class ChaosRun : IAsyncDisposable
{
    private static readonly TimeSpan StrikeWithin = TimeSpan.FromSeconds(30);
    private static readonly TimeSpan SilentStrikeWithin = TimeSpan.FromSeconds(120);
    private static readonly TimeSpan TakeOverWithin = TimeSpan.FromSeconds(20);
    private static readonly TimeSpan LeaseOver = LeaseOptions.Default.Duration + TimeSpan.FromSeconds(2);
    private static readonly TimeSpan GrowWithin = TimeSpan.FromSeconds(15);
    private static readonly TimeSpan EndWithin = TimeSpan.FromSeconds(60);
    private static readonly TimeSpan SettleWithin = TimeSpan.FromSeconds(20);

    private readonly ChaosCluster _cluster;
    private readonly ChaosRow _row;
    private readonly VmName _vm;
    private readonly Striker _striker;
    private readonly Outside _outside;
    private readonly RunWatch _watch;
    private readonly HttpClient _agents = new(new SocketsHttpHandler { UseProxy = false })
    {
        DefaultRequestVersion = HttpVersion.Version20,
        DefaultVersionPolicy = HttpVersionPolicy.RequestVersionExact,
        Timeout = TimeSpan.FromSeconds(5),
    };

    private MigrationReport? _end;

    private ChaosRun(ChaosCluster cluster, ChaosRow row, VmName vm)
    {
        (_cluster, _row, _vm) = (cluster, row, vm);
        _outside = new Outside(cluster.Local, vm);
        _striker = new Striker(cluster, row, vm, _outside);
        _watch = new RunWatch(_outside.Written, Step.Source, Step.Destination);
    }

    internal static async Task RunAsync(ChaosCluster cluster, ChaosRow row, Action<string> say, CancellationToken cancellation)
    {
        await cluster.UpAsync(cancellation);
        long began = TimeProvider.System.GetTimestamp();
        await using var run = new ChaosRun(cluster, row, VmName.Parse(cluster.NextVm()));
        try
        {
            await run.PlayAsync(cancellation);
            say($"{run._end?.State ?? "refused"}{(run._end?.Error is { } error ? $" ({error.Code}: {error.Message})" : "")} after {TimeProvider.System.GetElapsedTime(began).TotalSeconds:0.0} s");
        }
        catch
        {
            say(run.Story());
            throw;
        }
    }

    public async ValueTask DisposeAsync()
    {
        await _watch.DisposeAsync();
        _cluster.Steps.OnStep = static _ => Task.CompletedTask;
        _agents.Dispose();
    }

    private async Task PlayAsync(CancellationToken cancellation)
    {
        _cluster.Steps.Forget();
        await Patience.UntilAsync("hosts are ready and nodes hold their shards", SettleWithin, () => _cluster.UnsettledAsync(cancellation), cancellation); // the row before restarted one

        await _cluster.CreateAsync(_cluster.BootBlockVm(_vm), cancellation);
        await GrowsAsync(Step.Source, "the guest runs at first", cancellation);
        _cluster.Steps.Forget();
        _cluster.Steps.OnStep = _striker.OnStepAsync;
        // The guest writes all of its pages without a rest: on a busy machine they take longer than the default downtime, and a pre-copy that gives up comes to no row's step.
        var options = new MigrationOptions(_row.Mode, MaxDowntimeMs: 3000);
        var posting = _cluster.MigrateAsync(new MigrateRequest(_vm, HostName.Parse(Step.Destination), options, Guid.NewGuid()), EndWithin, cancellation);

        var within = _row.Way == Way.DestinationSilent ? SilentStrikeWithin : StrikeWithin;
        await Patience.UntilAsync("the step of the row", within, () => Task.FromResult(_striker.Struck ? null : "It never came: the row proves nothing."), cancellation);
        if (_cluster is TrioCluster trio)
        {
            await TakenOverAsync(trio, cancellation);
            await _striker.RestartedAsync();
        }
        else
        {
            await CheckWhileDeadAsync(cancellation);
            await _striker.RestartedAsync();
            await _cluster.StartTheDeadAsync(cancellation);
        }

        await EndAsync(await posting, cancellation);
        await SettledAsync(cancellation);
        await _cluster.DeleteAsync(_vm, force: _end?.State == "lost", cancellation);
        await _cluster.StartTheDeadAsync(cancellation);
    }

    /// <summary>
    /// Every shard that the victim held is another's, by the database's own rows, and that other one answers for it. A frozen victim is continued when its lease is long over: what
    /// it was about to write or to send is then refused, or the row ends in two machines.
    /// </summary>
    private async Task TakenOverAsync(TrioCluster trio, CancellationToken cancellation)
    {
        string victim = _striker.Owner;
        await Patience.UntilAsync($"others hold the shards of '{victim}'", TakeOverWithin, async () =>
        {
            var now = await trio.HoldingsAsync(cancellation);
            var shards = await trio.AskAsync(static (client, late) => client.ShardsAsync(late), cancellation);
            return now.Count < shards.Count || now.Values.Any(h => h.Node is null || h.Node == victim) || shards.Any(s => s.State is not ("held" or "placed") || s.Node == victim)
                ? string.Join(", ", now.Select(static h => $"{h.Key}: {h.Value.Node ?? "nobody"} at {h.Value.Epoch}"))
                : null;
        }, cancellation);
        trio.TakeOvers.Add(TimeProvider.System.GetElapsedTime(_striker.StruckAt));
        if (_row.Victim != Victim.FrozenSupervisor)
            return;
        var left = LeaseOver - TimeProvider.System.GetElapsedTime(_striker.StruckAt);
        await Task.Delay(left > TimeSpan.Zero ? left : TimeSpan.Zero, TimeProvider.System, cancellation);
        trio.Thaw();
    }

    /// <summary>The killed process is dead and nothing was restarted yet.</summary>
    private async Task CheckWhileDeadAsync(CancellationToken cancellation)
    {
        Assert.True(_row.Victim == Victim.DestinationMachine || _row.Way == Way.PullDies || _outside.Machines().Count > 0, "No QEMU process of the VM is left.");
        bool handingOver = Saw(Step.Source, Step.Before, "handing-over");
        if (!handingOver)
        {
            long before = _outside.Written(Step.Source);
            await Patience.UntilAsync("the VM runs on at the source, which has not begun to hand it over", GrowWithin, () => Task.FromResult(
                _outside.Written(Step.Source) > before + 1 || Saw(Step.Source, Step.Before, "handing-over") ? null : "The guest stands."), cancellation);
        }
        else if (Saw(Step.Destination, Step.After, "accepted") && _row is { Mode: MigrationMode.PreCopy, Victim: not (Victim.DestinationAgent or Victim.DestinationMachine) })
        {
            await GrowsAsync(Step.Destination, "the VM runs at the destination, which has accepted it", cancellation);
        }

        Assert.Null(_watch.Violation);
    }

    private async Task EndAsync(MigrationId id, CancellationToken cancellation)
    {
        await Patience.UntilAsync("the migration's end", EndWithin, async () =>
        {
            _end = await _cluster.AskAsync((client, late) => client.MigrationAsync(id.ToString(), late), cancellation);
            return _end.State is "completed" or "failed" or "aborted" or "recovered" or "lost" ? null : $"It is '{_end.State}'.";
        }, cancellation);
        bool accepted = Saw(Step.Destination, Step.After, "accepted");
        string[] allowed = MachineDied ? ["lost", "completed"] : accepted ? ["completed"] : ["failed", "aborted"];
        Assert.True(allowed.Contains(_end!.State), $"It ended as '{_end.State}' although {(accepted ? "the destination had accepted" : "the destination had not accepted")}.");
    }

    /// <summary>The VM's only machine was killed where it had the right to run.</summary>
    private bool MachineDied => Saw(Step.Destination, Step.After, "accepted") && (_row.Victim == Victim.DestinationMachine || _row.Way == Way.PullDies);

    private async Task SettledAsync(CancellationToken cancellation)
    {
        string? home = MachineDied ? null : _end?.State == "completed" ? Step.Destination : Step.Source;
        await Patience.UntilAsync("one machine and nothing left over", SettleWithin, () => LeftoverAsync(home, cancellation), cancellation);
        if (home is not null)
        {
            await GrowsAsync(home, "the VM runs in the end", cancellation);
            Assert.Null(await Outside.OracleAsync(_outside.Machines().Single(), cancellation));
            await GrowsAsync(home, "the VM runs on", cancellation);
        }
        else
        {
            foreach (var machine in _outside.Machines())
                Assert.False(await Outside.ComputesAsync(machine, cancellation), $"A machine of the dead VM computes at {machine.Host}.");
        }

        Assert.Null(_watch.Violation);
    }

    /// <summary>What is still there that should not be, or not there that should; null: exactly the machine at home, or none.</summary>
    private async Task<string?> LeftoverAsync(string? home, CancellationToken cancellation)
    {
        // A lost VM's last memory at the source is kept, standing, until an operator deletes the VM.
        var machines = _outside.Machines().Where(m => _end?.State != "lost" || m.Host != Step.Source).ToList();
        if (!machines.Select(m => m.Host).SequenceEqual(home is null ? [] : [home]))
            return $"QEMU at {(machines.Count == 0 ? "no host" : string.Join(", ", machines.Select(m => m.Host)))}, expected at {home ?? "none"}.";
        var folders = _outside.Machines().Select(m => Path.GetDirectoryName(m.Ram));
        if (_outside.MemoryEntries().Except(folders) is var rest && rest.Any())
            return $"Left in memory: {string.Join(", ", rest)}.";
        var owners = new List<string>();
        foreach (var host in await _cluster.AskAsync(static (client, late) => client.HostsAsync(late), cancellation))
        {
            var facts = await _agents.GetFromJsonAsync(new Uri(host.AgentUrl!, "/agent/v1/facts?after=-1&wait_ms=0"), AgentJson.Default.HostFacts, cancellation);
            var fact = facts!.Vms.FirstOrDefault(v => v.Name == _vm);
            if (fact is { Owner: true })
                owners.Add(host.Name.Value);
            if (fact is { ProcessId: { } pid } && _outside.Machines().All(m => m.Process.ProcessId != pid))
                return $"The agent of {host.Name} speaks of process {pid}.";
        }

        bool agreed = home is null ? owners.Count <= 1 : owners.SequenceEqual([home]);
        return agreed ? null : $"Owner by the agents: {string.Join(", ", owners)}; expected {home}.";
    }

    private Task GrowsAsync(string host, string what, CancellationToken cancellation) => _outside.GrowsAsync(host, what, GrowWithin, cancellation);

    private bool Saw(string daemon, string moment, string kind) => _cluster.Steps.Saw(new Step(daemon, moment, kind));

    /// <summary>The words of a daemon's log: time and message of each line of JSON.</summary>
    private IEnumerable<string> Messages(string member)
    {
        foreach (string line in _cluster.Local.LogLines(member, 40))
        {
            string[] parts = line.Split("\"Message\":\"", 2);
            yield return parts.Length < 2 ? line : $"  {line.Split('"').ElementAtOrDefault(3)} {parts[1].Split("\",\"State\"")[0]}";
        }
    }

    private string Story() => $"""
        row: {_row}
        migration: {_end?.State} {_end?.Error}
        QEMU: {string.Join(", ", _outside.Machines())}
        steps: {string.Join("; ", _cluster.Steps.Trace.Select(s => s.Step))}
        {string.Join('\n', _cluster.Local.Controls.Concat(_cluster.Local.Hosts).Select(m => $"{m}:\n{string.Join('\n', Messages(m))}"))}
        """;
}
