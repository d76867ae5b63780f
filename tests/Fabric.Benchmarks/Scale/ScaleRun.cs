using System.Diagnostics;
using System.Globalization;
using System.Runtime;
using Fabric.Core;
using Fabric.Migration;
using Fabric.Wire.Api;
using Microsoft.Extensions.Logging;

namespace Fabric.Benchmarks.Scale;

/// <summary>One run: hosts, VMs, evacuations, the end, and the checks. What it makes on disk is removed with it.</summary>
internal sealed class ScaleRun(ScaleOptions options, string command, TimeProvider time, Random random, Action<string> say)
{
    private const int CreationsAtOnce = 128;
    private const int AgentThreadCount = 4;
    private const int LedgersOpen = 8000;
    private const int MovedBefore = 50;
    private static readonly TimeSpan BatchDeadline = TimeSpan.FromMinutes(15);

    private readonly List<ScaleHost> _hosts = [];

    internal async Task<ScaleResult> RunAsync(CancellationToken cancellation)
    {
        string folder = Directory.CreateTempSubdirectory("fabric-bench-").FullName;
        try
        {
            using var threads = new AgentThreads(AgentThreadCount);
            using var agentLogs = new CountingLogs(Path.Combine(folder, "agents.log"), LogLevel.Warning, time);
            using var controlLogs = new CountingLogs(Path.Combine(folder, "control.log"), LogLevel.Information, time);
            var clock = new DecisionClock(time);
            var gateway = new InProcessGateway(threads, clock, time);
            var ledgers = new LedgerPool(LedgersOpen);
            var link = new InProcessLink(time);
            try
            {
                var around = new HostSurroundings(folder, (long)options.MemoryMebibytes * ByteSize.Mebi, threads, ledgers, link, time, agentLogs);
                for (int i = 0; i < options.Hosts; i++)
                {
                    var host = await ScaleHost.StartAsync(Host(i), around, () => new Random(Next()), cancellation);
                    _hosts.Add(host);
                    gateway.Add(host);
                }

                say($"{_hosts.Count} agents run.");
                await using var control = await ControlUnderLoad.StartAsync(options, folder, gateway, clock, time, random, controlLogs, cancellation);
                var result = await MeasureAsync(control, gateway, clock, ledgers, link, cancellation);
                var warnings = controlLogs.Warnings.Concat(agentLogs.Warnings).GroupBy(static w => w.Key).ToDictionary(static g => g.Key, static g => g.Sum(static w => w.Value));
                return result with { Warnings = warnings };
            }
            finally
            {
                foreach (var chunk in _hosts.Chunk(64))
                    await Task.WhenAll(chunk.Select(static host => host.DisposeAsync().AsTask()));
            }
        }
        finally
        {
            Directory.Delete(folder, recursive: true);
        }
    }

    private async Task<ScaleResult> MeasureAsync(
        ControlUnderLoad control, InProcessGateway gateway, DecisionClock clock, LedgerPool ledgers, InProcessLink link, CancellationToken cancellation)
    {
        using var announcing = CancellationTokenSource.CreateLinkedTokenSource(cancellation);
        var announcements = AnnounceAsync(control, announcing.Token);
        try
        {
            await UntilAsync(
                async () => (await control.Plane.ListHostsAsync(cancellation)).Count(static h => h.State == "ready") == options.Hosts, control, "all hosts are ready", cancellation);
            long begun = time.GetTimestamp();
            await CreateAsync(control, cancellation);
            double createSeconds = time.GetElapsedTime(begun).TotalSeconds;
            GC.Collect();
            long resident = Resident("VmRSS");
            say(string.Create(CultureInfo.InvariantCulture, $"{options.Vms} VMs run after {createSeconds:0.0} s, RSS {resident / 1048576} MiB."));

            await WarmAsync(control, cancellation);
            link.FirstRound = TimeSpan.FromSeconds(Math.Max(options.PushSeconds, InProcessLink.LeastRound.TotalSeconds));
            clock.Forget();
            gateway.Forget();
            var before = Counters.Now(control, gateway, time);
            using var pauses = new PauseWatch(time);
            await EvacuateAsync(control, cancellation);
            double planSeconds = time.GetElapsedTime(before.At).TotalSeconds;
            say(string.Create(CultureInfo.InvariantCulture, $"{options.Evacuated} evacuations accepted after {planSeconds:0.0} s."));
            await UntilAsync(async () => (await control.Plane.ListEvacuationsAsync(cancellation)).All(static e => e.TotalMs is not null), control, "all evacuations have ended", cancellation);
            var after = Counters.Now(control, gateway, time);
            var evacuations = await control.Plane.ListEvacuationsAsync(cancellation);
            var migrations = (await control.Plane.ListMigrationsAsync(cancellation)).Where(static m => m.Batch is not null).ToList();
            var result = Result(control, before, after, clock.Taken, migrations) with
            {
                Evacuations = evacuations.Count,
                PeakStreams = link.MostOpen,
                CreateSeconds = createSeconds,
                PlanSeconds = planSeconds,
                LongestGcPauseMs = pauses.LongestMs,
                GcPauses = pauses.ByGeneration,
                RssAfterCreation = resident,
                PeakRss = Resident("VmHWM"),
                PollGaps = Times.Of(gateway.PollGaps),
                LedgerAppends = ledgers.Appends,
                PagesMoved = link.Pages,
            };
            say("Checking every VM.");
            return result with { Bars = [.. ScaleChecks.Performance(options, result), .. await ScaleChecks.PlacesAsync(options, _hosts, control.Plane, migrations, evacuations, cancellation)] };
        }
        finally
        {
            await announcing.CancelAsync();
            await announcements.ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
        }
    }

    private ScaleResult Result(
        ControlUnderLoad control, Counters before, Counters after, IReadOnlyList<(Decided What, double Ms)> taken, IReadOnlyList<MigrationReport> migrations)
    {
        double seconds = (after.At - before.At) / (double)time.TimestampFrequency;
        var appends = control.Journal.AppendMs.Skip(before.Appends).Take(after.Appends - before.Appends).ToList();
        return new ScaleResult
        {
            Machine = $"{Environment.ProcessorCount} processors, {Environment.OSVersion.VersionString}, {(GCSettings.IsServerGC ? "server" : "workstation")} garbage collection",
            Command = command,
            Store = options.Store == "sqlite" ? "SQLite" : "PostgreSQL",
            Hosts = options.Hosts,
            Vms = options.Vms,
            PushSeconds = options.PushSeconds,
            RampSeconds = options.RampSeconds,
            Migrations = migrations.Count,
            Completed = migrations.Count(static m => m.State == "completed"),
            PeakConcurrent = control.Journal.MostMoving,
            BatchSeconds = seconds,
            MigrationsPerSecond = migrations.Count / seconds,
            ProcessorSeconds = (after.Processor - before.Processor).TotalSeconds,
            GcPauseSeconds = (after.Pauses - before.Pauses).TotalSeconds,
            Decisions = Times.Of(taken.Select(static t => t.Ms)),
            DecisionsByKind = taken.GroupBy(static t => t.What).OrderBy(static g => g.Key).ToDictionary(static g => Words(g.Key), static g => Times.Of(g.Select(static t => t.Ms))),
            PollGaps = Times.Of([]),
            MigrationTimes = Times.Of(migrations.Select(static m => m.TotalMs ?? 0)),
            Appends = Times.Of(appends),
            AppendsPerSecond = appends.Count / seconds,
            Commands = after.Commands - before.Commands,
            Facts = after.Facts - before.Facts,
            FactMebibytes = (after.FactBytes - before.FactBytes) / ByteSize.Mebi,
            Warnings = new Dictionary<string, int>(),
            Bars = [],
        };
    }

    private async Task CreateAsync(ControlUnderLoad control, CancellationToken cancellation)
    {
        int made = 0;
        await Parallel.ForEachAsync(
            Enumerable.Range(0, options.Vms),
            new ParallelOptions { MaxDegreeOfParallelism = CreationsAtOnce, CancellationToken = cancellation },
            async (i, stop) =>
            {
                var spec = new VmSpec
                {
                    Name = Vm(i),
                    Machine = MachineKind.Synthetic,
                    MemoryBytes = ByteSize.Mebi,
                    Workload = string.Create(CultureInfo.InvariantCulture, $"write-heavy:{i + 1}:16K:10000"),
                };
                await control.Plane.CreateVmAsync(new CreateVmRequest(spec, Host(i % options.Hosts)), stop);
                if (Interlocked.Increment(ref made) % 5000 == 0)
                    say(string.Create(CultureInfo.InvariantCulture, $"{made} VMs made."));
            });
    }

    /// <summary>A control node has moved VMs before, and its code is compiled: a few are moved between hosts that stay.</summary>
    private async Task WarmAsync(ControlUnderLoad control, CancellationToken cancellation)
    {
        int count = Math.Min(MovedBefore, (options.Hosts - options.Evacuated) / 2);
        for (int i = options.Evacuated; i < options.Evacuated + count; i++)
            await control.Plane.MigrateAsync(new MigrateRequest(Vm(i), Host(i + count), MigrationOptions.Default with { Mode = MigrationMode.PreCopy }, null), cancellation);
        await UntilAsync(() => Task.FromResult(control.Journal.Settlements == count), control, "the first moves are over", cancellation);
    }

    /// <summary>As an operator empties racks: first no new VM may come, then all go.</summary>
    private async Task EvacuateAsync(ControlUnderLoad control, CancellationToken cancellation)
    {
        var parallel = new ParallelOptions { MaxDegreeOfParallelism = 16, CancellationToken = cancellation };
        await Parallel.ForEachAsync(Enumerable.Range(0, options.Evacuated), parallel, async (i, stop) => await control.Plane.SetCordonedAsync(Host(i), cordoned: true, reason: null, stop));
        var how = MigrationOptions.Default with { Mode = MigrationMode.PreCopy, Reason = "scale" };
        long begun = time.GetTimestamp();
        await Parallel.ForEachAsync(
            Enumerable.Range(0, options.Evacuated), parallel,
            async (i, stop) =>
            {
                var left = TimeSpan.FromSeconds((double)options.RampSeconds * i / options.Evacuated) - time.GetElapsedTime(begun);
                if (left > TimeSpan.Zero)
                    await Task.Delay(left, time, stop);
                await control.Plane.EvacuateAsync(new EvacuateRequest(Host(i), options.VmsPerHost, DryRun: false, how, Guid.NewGuid()), stop);
            });
    }

    /// <summary>Every agent registers every second, a tenth of them at a time.</summary>
    private async Task AnnounceAsync(ControlUnderLoad control, CancellationToken cancellation)
    {
        for (int slice = 0; ; slice = (slice + 1) % 10)
        {
            for (int i = slice; i < _hosts.Count; i += 10)
                await control.Plane.RegisterHostAsync(_hosts[i].Registration, cancellation);
            await Task.Delay(TimeSpan.FromMilliseconds(100), time, cancellation);
        }
    }

    private async Task UntilAsync(Func<Task<bool>> condition, ControlUnderLoad control, string what, CancellationToken cancellation)
    {
        long begun = time.GetTimestamp();
        int said = 0;
        while (!await condition())
        {
            var elapsed = time.GetElapsedTime(begun);
            if (elapsed > BatchDeadline)
                throw new FabricException(ErrorCodes.DeadlineExceeded, $"Not within {BatchDeadline}: {what}.");
            if ((int)elapsed.TotalSeconds / 10 > said)
            {
                said = (int)elapsed.TotalSeconds / 10;
                say(string.Create(CultureInfo.InvariantCulture, $"  {elapsed.TotalSeconds:0} s: {control.Journal.Claims} begun, {control.Journal.Settlements} over, RSS {Resident("VmRSS") / 1048576} MiB"));
            }

            await Task.Delay(TimeSpan.FromMilliseconds(250), time, cancellation);
        }
    }

    private int Next()
    {
        lock (random)
            return random.Next();
    }

    private static VmName Vm(int i) => VmName.Parse($"vm-{i.ToString("D6", CultureInfo.InvariantCulture)}");

    private static HostName Host(int i) => HostName.Parse($"host-{i.ToString("D5", CultureInfo.InvariantCulture)}");

    private static string Words(Decided what) => what switch
    {
        Decided.Prepare => "claim durable → prepare-incoming sent",
        Decided.Push => "prepared → start-push sent",
        Decided.HandOver => "converged → hand-over sent",
        Decided.Release => "complete and drained → release-source sent",
        _ => "released → settlement durable",
    };

    /// <summary>A line of /proc/self/status in bytes.</summary>
    private static long Resident(string name) => long.Parse(
        File.ReadLines("/proc/self/status").First(line => line.StartsWith(name + ":", StringComparison.Ordinal)).Split((char[]?)null, StringSplitOptions.RemoveEmptyEntries)[1], CultureInfo.InvariantCulture) * 1024;

    private sealed record Counters(long At, int Appends, long Commands, long Facts, long FactBytes, TimeSpan Processor, TimeSpan Pauses)
    {
        internal static Counters Now(ControlUnderLoad control, InProcessGateway gateway, TimeProvider time) => new(
            time.GetTimestamp(), control.Journal.Appends, gateway.Commands, gateway.Facts, gateway.FactBytes, Process.GetCurrentProcess().TotalProcessorTime, GC.GetTotalPauseDuration());
    }
}
