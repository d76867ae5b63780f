using Fabric.Cli.Output;
using Fabric.Core;
using Fabric.Wire.Api;
using Spectre.Console;

namespace Fabric.Cli.Commands;

/// <summary>
/// Follows something under way by long polls. Ctrl-C detaches and never cancels the work: the commands that re-attach and that
/// abort are printed. On a terminal the board is redrawn in place on stderr; elsewhere a line is written when a phase or round begins.
/// </summary>
internal abstract class ProgressWatch(Invocation run, ControlClient client)
{
    private static readonly TimeSpan LongestSilence = TimeSpan.FromSeconds(1);

    private readonly HashSet<string> _said = new(StringComparer.Ordinal); // another control node may be a moment behind: a stage is said once

    protected Invocation Run { get; } = run;

    protected ControlClient Client { get; } = client;

    /// <summary>Asks <paramref name="look"/> at every change until it says that all is over. True: over; false: <paramref name="limit"/> passed.</summary>
    protected async Task<bool> FollowAsync(Func<CancellationToken, Task<(bool Over, IReadOnlyList<MigrationReport> Moves)>> look, TimeSpan? limit, CancellationToken cancellation)
    {
        using var deadline = new CancellationTokenSource(limit ?? Timeout.InfiniteTimeSpan, Run.Context.Time);
        using var either = CancellationTokenSource.CreateLinkedTokenSource(cancellation, deadline.Token);
        try
        {
            if (!Run.Context.TalkIsTerminal)
                return await LoopAsync(look, Say, either.Token);
            var console = Terminal.On(Run.Context.Talk, Run.Context, Run.Color);
            return await console.Live(MigrationBoard.Draw([], Run.Context.Width)).AutoClear(false).StartAsync(live => LoopAsync(look, moves => live.UpdateTarget(MigrationBoard.Draw(moves, Run.Context.Width)), either.Token));
        }
        catch (OperationCanceledException) when (deadline.IsCancellationRequested && !cancellation.IsCancellationRequested)
        {
            return false;
        }
    }

    private async Task<bool> LoopAsync(
        Func<CancellationToken, Task<(bool Over, IReadOnlyList<MigrationReport> Moves)>> look, Action<IReadOnlyList<MigrationReport>> show, CancellationToken cancellation)
    {
        long version = 0;
        while (true)
        {
            var (over, moves) = await look(cancellation);
            show(moves);
            if (over)
                return true;
            long next = await Client.WaitChangeAsync(version, LongestSilence, cancellation);

            // A version that goes back belongs to another control node: begin anew with it.
            version = next;
        }
    }

    private void Say(IReadOnlyList<MigrationReport> moves)
    {
        foreach (var move in moves)
        {
            if (_said.Add($"{move.Id}/{move.State}/{move.Progress?.Phase}/{move.Progress?.Round}"))
                Run.Context.Say(MigrationBoard.Line(move));
        }
    }
}

internal sealed class MigrationWatch(Invocation run, ControlClient client) : ProgressWatch(run, client)
{
    /// <returns>The exit code of the migration's end.</returns>
    public async Task<int> RunAsync(MigrationReport migration, TimeSpan? limit, CancellationToken cancellation)
    {
        string id = migration.Id.ToString();
        string shortId = Words.ShortId(migration.Id);
        try
        {
            bool ended = await FollowAsync(
                async token =>
                {
                    migration = await Client.MigrationAsync(id, token);
                    return (MigrationStates.IsFinal(migration), [migration]);
                },
                limit,
                cancellation);
            if (!ended)
            {
                Run.Context.Say($"Still {migration.State} after {Words.Seconds(limit?.TotalSeconds)}; the move goes on: fabric migration watch {shortId}");
                return ExitCode.TimedOut;
            }
        }
        catch (OperationCanceledException) when (cancellation.IsCancellationRequested)
        {
            Run.Context.Say($"Detached; the move goes on.\n  watch it:     fabric migration watch {shortId}\n  give it up:   fabric migration abort {shortId}");
            return ExitCode.Interrupted;
        }

        if (migration.Error is { } error)
            Run.Context.Say($"error: {error.Message}\n  [{error.Code}]");
        Run.Printer.One(migration, Views.Migration, m => m.Id.ToString(), api => api.MigrationReport);
        return migration.Error?.Code is ErrorCodes.RefusedByEpoch or ErrorCodes.RefusedBySafety ? ExitCode.Refused : ExitCode.Of(migration);
    }
}

internal sealed class EvacuationWatch(Invocation run, ControlClient client) : ProgressWatch(run, client)
{
    /// <returns>The exit code of the evacuation's end.</returns>
    public async Task<int> RunAsync(EvacuationReport evacuation, TimeSpan? limit, CancellationToken cancellation)
    {
        try
        {
            bool ended = await FollowAsync(
                async token =>
                {
                    evacuation = await Client.EvacuationAsync(evacuation.Id, token);
                    var ids = evacuation.Items.Where(i => i.Migration is not null).Select(i => i.Migration!.Value).ToHashSet();
                    var moves = ids.Count == 0 ? [] : (await Client.MigrationsAsync(token)).Where(m => ids.Contains(m.Id)).ToList();
                    return (MigrationStates.IsFinal(evacuation), moves);
                },
                limit,
                cancellation);
            if (!ended)
            {
                Run.Context.Say($"Not empty after {Words.Seconds(limit?.TotalSeconds)}; the evacuation goes on: fabric evacuation show {evacuation.Id}");
                return ExitCode.TimedOut;
            }
        }
        catch (OperationCanceledException) when (cancellation.IsCancellationRequested)
        {
            Run.Context.Say($"Detached; the evacuation goes on.\n  see it:               fabric evacuation show {evacuation.Id}\n  give a move of it up: fabric migration abort ID");
            return ExitCode.Interrupted;
        }

        Run.Printer.One(evacuation, Views.Evacuation, e => e.Id, api => api.EvacuationReport);
        return ExitCode.Of(evacuation);
    }
}
