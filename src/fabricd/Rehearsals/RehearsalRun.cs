using System.Collections.Immutable;
using System.Reflection;
using Fabric.Actors;
using Fabric.Api;
using Fabric.Core;
using Fabric.Host;
using Fabric.Machines;
using Fabric.Migration;
using Fabric.Native;
using Fabric.Transfer;
using Fabric.Wire.Agent;

namespace Fabric.Daemon.Rehearsals;

/// <summary>
/// When the rehearsal runs, and after it the compilation of what it did not call: once in an agent's life, as soon as no VM here is in a migration. An agent that took VMs over from an earlier life has
/// better things to do first; and a guest that waits for its migration does not wait for the compiler.
/// </summary>
internal sealed partial class RehearsalRun : IAsyncDisposable
{
    private static readonly TimeSpan Look = TimeSpan.FromSeconds(5);
    private const int LooksMost = 100;

    /// <summary>The compiler's time between two looks at the guests.</summary>
    private static readonly TimeSpan CompileAtOnce = TimeSpan.FromMilliseconds(20);
    private static readonly TimeSpan LookAtGuests = TimeSpan.FromMilliseconds(250);

    // All that an agent's part of a migration consists of.
    private static ImmutableArray<Assembly> Parts =>
    [
        typeof(VmName).Assembly, typeof(ActorSystem).Assembly, typeof(ProcessHandle).Assembly, typeof(IMachine).Assembly, typeof(TransferSettings).Assembly,
        typeof(AgentJson).Assembly, typeof(HostAgent).Assembly, typeof(AgentEndpoints).Assembly,
    ];

    private readonly ILogger _log;
    private readonly CancellationTokenSource _stop = new();
    private readonly Task _running;
    private string? _problem = "its rehearsal has not begun";

    public RehearsalRun(Rehearsal rehearsal, HostAgent agent, ILogger log, TimeProvider time)
    {
        _log = log;
        _running = Task.Run(() => RunAsync(rehearsal, agent, time, _stop.Token));
    }

    /// <summary>Why a guest that moves now may stand, or wait, longer than later; null once all that takes part is compiled, and while the rehearsal is put off. For the readiness check. Any thread.</summary>
    public string? Problem => Volatile.Read(ref _problem);

    public async ValueTask DisposeAsync()
    {
        await _stop.CancelAsync();
        await _running.ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
        _stop.Dispose();
    }

    private async Task RunAsync(Rehearsal rehearsal, HostAgent agent, TimeProvider time, CancellationToken stop)
    {
        try
        {
            if (!await IsQuietAsync(agent, time, stop))
                return;
            Tell("its rehearsal is under way");
            if (!await rehearsal.RunAsync(stop))
                return;
            Tell("what its rehearsal did not call is being compiled");
            await CompileRestAsync(agent, time, stop);
        }
        finally
        {
            Tell(null);
        }
    }

    // An agent that has started tells of every VM that it found.
    private async Task<bool> IsQuietAsync(HostAgent agent, TimeProvider time, CancellationToken stop)
    {
        if ((await agent.FactsAsync(-1, TimeSpan.Zero, stop)).Vms.Count == 0)
            return true;
        Tell(null);
        for (int look = 0; look < LooksMost; look++)
        {
            await Task.Delay(Look, time, stop);
            if (!(await agent.FactsAsync(-1, TimeSpan.Zero, stop)).Vms.Any(IsMoving))
                return true;
        }

        return false;
    }

    private void Tell(string? problem) => Volatile.Write(ref _problem, problem);

    private async Task CompileRestAsync(HostAgent agent, TimeProvider time, CancellationToken stop)
    {
        long began = time.GetTimestamp();
        try
        {
            int methods = 0;
            long looked = began;
            foreach (int some in EarlyCompilation.Run(Parts, stop))
            {
                methods += some;
                if (time.GetElapsedTime(looked) < CompileAtOnce)
                    continue;
                await AwaitGuestsAsync(agent, time, stop);
                looked = time.GetTimestamp();
            }

            LogCompiled(methods, time.GetElapsedTime(began).TotalMilliseconds);
        }
        catch (Exception e) when (e is not (OperationCanceledException or OutOfMemoryException))
        {
            // They are compiled when they are first called, as without this.
            LogNotCompiled(e.Message);
        }
    }

    // The compiler takes a processor; a guest that stands, or waits for its pages, needs it more. While memory is pushed no guest waits.
    private static async Task AwaitGuestsAsync(HostAgent agent, TimeProvider time, CancellationToken stop)
    {
        for (int look = 0; look < LooksMost && (await agent.FactsAsync(-1, TimeSpan.Zero, stop)).Vms.Any(IsWaitedFor); look++)
            await Task.Delay(LookAtGuests, time, stop);
    }

    private static bool IsWaitedFor(VmFact vm) =>
        vm.Outgoing is { Phase: SourcePhase.Converged or SourcePhase.HandingOver or SourcePhase.TokenSent or SourcePhase.HandedOver }
        || vm.Incoming is { Phase: DestinationPhase.Ready or DestinationPhase.TokenAccepted or DestinationPhase.Pulling };

    private static bool IsMoving(VmFact vm) =>
        IsWaitedFor(vm)
        || vm.Outgoing is { Phase: SourcePhase.Pushing }
        || vm.Incoming is { Phase: not (DestinationPhase.Complete or DestinationPhase.Refused or DestinationPhase.Lost) };

    [LoggerMessage(Level = LogLevel.Information, Message = "Compiling what the rehearsal did not call of {Methods} methods took {Milliseconds:0} ms")]
    private partial void LogCompiled(int methods, double milliseconds);

    [LoggerMessage(Level = LogLevel.Warning, Message = "Compiling what the rehearsal did not call ended early, the first guest that moves may stand some milliseconds longer: {Error}")]
    private partial void LogNotCompiled(string error);
}
