using System.Globalization;
using Fabric.Cli.Output;
using Fabric.Core;
using Fabric.Migration;
using Spectre.Console;
using Spectre.Console.Rendering;

namespace Fabric.Cli.Demo;

/// <summary>Shows a running demo: redrawn in place on a terminal, else one line per stage and per finished move.</summary>
internal sealed class DemoScreen(Invocation run, DemoState state)
{
    private static readonly TimeSpan Period = TimeSpan.FromMilliseconds(250);

    private readonly HashSet<MigrationId> _said = [];
    private string _stage = "";

    /// <summary>Runs <paramref name="work"/> and shows the state until it ends.</summary>
    public async Task ShowAsync(Func<Task> work)
    {
        var working = work();
        if (!run.Context.TalkIsTerminal)
        {
            await LoopAsync(working, Say);
            return;
        }

        var console = Terminal.On(run.Context.Talk, run.Context, run.Color);
        await console.Live(Draw()).AutoClear(true).StartAsync(live => LoopAsync(working, () => live.UpdateTarget(Draw())));
    }

    private async Task LoopAsync(Task working, Action show)
    {
        while (!working.IsCompleted)
        {
            show();
            await Task.WhenAny(working, Task.Delay(Period, run.Context.Time));
        }

        show();
        await working;
    }

    private IRenderable Draw()
    {
        var moves = state.Moves;
        return moves.Count == 0
            ? new Text($"fabric demo: {state.Stage}")
            : new Rows(new Text($"fabric demo: {state.Stage}"), MigrationBoard.Draw(moves.Select(m => m.Report), run.Context.Width));
    }

    private void Say()
    {
        if (state.Stage is var stage && stage != _stage)
        {
            _stage = stage;
            run.Context.Say($"demo: {stage}");
        }

        foreach (var move in state.Moves)
        {
            if (MigrationStates.IsFinal(move.Report) && _said.Add(move.Report.Id))
                run.Context.Say($"demo:   {Words.Name(move.Report.Mode)} {MigrationBoard.Line(move.Report)}");
        }
    }
}

/// <summary>The tables at the end of a demo.</summary>
internal static class DemoTables
{
    public static void Print(Invocation run, DemoResult result)
    {
        PrintMoves(run, result);
        foreach (var check in result.Checks)
            run.Context.Out.WriteLine($"{(check.Ok ? "ok  " : "FAIL")}  {check.Name}: {check.Detail}");
        if (result.Error is { } error && result.ExitCode != ExitCode.Interrupted)
            run.Context.Out.WriteLine($"FAIL  {error}");
        run.Context.Out.WriteLine($"{(result.Ok ? "The demo succeeded" : result.ExitCode == ExitCode.Interrupted ? "The demo was interrupted" : "The demo FAILED")} in {Words.Seconds(result.Seconds)}: {result.Migrations.Count} migrations{(result.Guests.Count > 0 ? $", {result.Guests.Count} guests" : "")} on {result.Hosts} hosts.");
    }

    private static void PrintMoves(Invocation run, DemoResult result) =>
        new Printer(run.Context, OutputFormat.Table, run.Color).List(
            result.Migrations,
            [
                new("vm", m => Cells(m)[0]), new("mode", m => Cells(m)[1]), new("move", m => Cells(m)[2]), new("total", m => Cells(m)[3], Right: true),
                new("downtime (agent)", m => Cells(m)[4], Right: true), new("downtime (guest)", m => Cells(m)[5], Right: true), new("wire / ram", m => Cells(m)[6], Right: true),
                new("rounds", m => Cells(m)[7], Right: true), new("faults", m => Cells(m)[8], Right: true), new("verified", m => Cells(m)[9]),
            ],
            m => m.Report.Id.ToString(),
            _ => DemoJson.Default.DemoMigration);

    private static string[] Cells(DemoMigration move)
    {
        var report = move.Report;
        string guest = move.GuestDowntimeMs is null ? Words.None : string.Create(CultureInfo.InvariantCulture, $"{move.GuestDowntimeMs:0.0} ± {move.GuestUncertaintyMs:0.00} ms");
        return
        [
            report.Vm.Value, Words.Name(report.Mode) + (report.Batch is null ? "" : " (batch)"), $"{report.Source} → {report.Destination}", Words.Millis(report.TotalMs), Words.Millis(report.DowntimeMs),
            guest, $"{Words.Bytes(report.Memory.WireBytes)} / {Words.Bytes(report.Memory.TotalBytes)}", Words.Number(report.Rounds),
            Words.Number(report.Faults.Network), report.Verified == true && report.Verify == VerifyLevel.Full ? "yes, full" : Words.YesNo(report.Verified),
        ];
    }
}
