using Fabric.Chaos.Rows;
using Fabric.Core;
using Fabric.Native;

namespace Fabric.Chaos.Cluster;

/// <summary>
/// Sees every step of every daemon while it is held, first sends the migration on the row's way, then kills the row's victim. A step goes on only when the
/// killed process is gone.
/// </summary>
internal sealed class Striker(ChaosCluster cluster, ChaosRow row, VmName vm, Outside outside)
{
    private static readonly TimeSpan DeathWithin = TimeSpan.FromSeconds(10);
    private static readonly TimeSpan HeardWithin = TimeSpan.FromSeconds(20);
    private static readonly TimeSpan SilentFor = TimeSpan.FromSeconds(90);

    private readonly TaskCompletionSource _struck = new(TaskCreationOptions.RunContinuationsAsynchronously);
    private readonly TaskCompletionSource _silenceSeen = new(TaskCreationOptions.RunContinuationsAsynchronously);
    private int _sent;
    private int _hit;
    private string? _migration;
    private Task _restart = Task.CompletedTask;
    private string? _owner;

    /// <summary>The control node that wrote the row's event, or would have.</summary>
    internal string Owner => _owner ?? throw new InvalidOperationException("Nothing was struck.");

    /// <summary>Monotonic: when the victim was dead, or stood.</summary>
    internal long StruckAt { get; private set; }

    /// <summary>Where the row's way leaves the undisturbed one.</summary>
    private Step Branch => row.Way switch
    {
        Way.HandOverBreaks => new Step(Step.Source, Step.After, "handing-over"),
        Way.TokenWaits or Way.TokenLost => new Step(Step.Destination, Step.Before, "accepted"),
        Way.PreparationBreaks => new Step(Step.Destination, Step.After, "machine-started"),
        Way.PullDies or Way.DestinationSilent => new Step(Step.Destination, Step.After, "accepted"),
        _ => new Step(Step.Source, Step.After, "push-started"),
    };

    internal bool Struck => _struck.Task.IsCompletedSuccessfully;

    /// <summary>When a daemon that was killed on the way is back, or was killed again.</summary>
    internal async Task RestartedAsync() => await _restart.ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);

    internal async Task OnStepAsync(SeenStep seen)
    {
        const string migrations = "migration/";
        bool ours = seen.Step.Daemon == Step.Control ? seen.Subject.StartsWith(migrations, StringComparison.Ordinal) : seen.Subject == vm.Value;
        if (!ours)
            return;
        if (seen.Step.Daemon == Step.Control)
            _migration = seen.Subject[migrations.Length..];
        if (seen.Step is { Daemon: Step.Control, Kind: "fencing-needed", Moment: Step.After })
            _silenceSeen.TrySetResult();

        if (row.Way != Way.Forward && seen.Step == Branch && Interlocked.Exchange(ref _sent, 1) == 0)
        {
            await SendOnItsWayAsync();
            return;
        }

        if (seen.Step == row.At && (row.Way is Way.Forward or Way.TokenWaits || Volatile.Read(ref _sent) == 1) && Interlocked.Exchange(ref _hit, 1) == 0)
        {
            _owner = seen.Member;
            await KillAsync(row.Victim);
            StruckAt = TimeProvider.System.GetTimestamp();
            _struck.TrySetResult();
        }
    }

    private async Task SendOnItsWayAsync()
    {
        if (row.Way == Way.Abort)
        {
            // The answer is not waited for: the supervisor may be the one that is killed.
            _ = IgnoreAsync(cluster.AskAsync((client, late) => client.AbortAsync(_migration!, "somebody changed his mind", late), CancellationToken.None));
            await HearAsync("abort-requested");
            return;
        }

        if (row.Way == Way.TokenWaits)
        {
            // Until the row's victim is dead: an "accepted" that is being written at that moment would be durable or not by chance.
            await _struck.Task.WaitAsync(HeardWithin, TimeProvider.System);
            return;
        }

        var victim = row.Way == Way.PullDies ? Victim.DestinationMachine : Victim.DestinationAgent;
        await KillAsync(victim);
        if (victim == Victim.DestinationAgent)
            _restart = RestartAsync();
    }

    private async Task RestartAsync()
    {
        if (row.Way == Way.DestinationSilent)
            await _silenceSeen.Task.WaitAsync(SilentFor, TimeProvider.System);
        using var deadline = new CancellationTokenSource(SilentFor, TimeProvider.System);
        await cluster.Local.StartAsync(Step.Destination, deadline.Token);
    }

    /// <summary>Holds the step at hand until the supervisor is about to write an event.</summary>
    private Task HearAsync(string kind) => Patience.UntilAsync(
        $"the supervisor comes to {kind}", HeardWithin, () => Task.FromResult(cluster.Steps.Saw(new Step(Step.Control, Step.Before, kind)) ? null : "It does not."), CancellationToken.None);

    private static async Task IgnoreAsync(Task asked)
    {
        try
        {
            await asked;
        }
        catch (FabricException)
        {
            // The supervisor was killed, or the migration ended first: the row looks at the end.
        }
    }

    private async Task KillAsync(Victim victim)
    {
        string? member = victim switch
        {
            Victim.SourceAgent => Step.Source,
            Victim.DestinationAgent => Step.Destination,
            Victim.Supervisor => Owner,
            _ => null,
        };
        if (victim == Victim.FrozenSupervisor)
        {
            await cluster.FreezeAsync(Owner);
            return;
        }

        if (member is not null)
        {
            await cluster.Local.KillAsync(member, CancellationToken.None);
            return;
        }

        var machine = outside.Machines().Single(m => m.Host == Step.Destination);
        using var process = ProcessHandle.TryOpen(machine.Process);
        if (process is null)
            return;
        process.SendKill();
        using var deaths = new DeathWatch();
        await deaths.WhenExited(process).WaitAsync(DeathWithin, TimeProvider.System);
    }
}
