using Fabric.Wire.Api;
using Spectre.Console;
using Spectre.Console.Rendering;

namespace Fabric.Cli.Output;

/// <summary>Draws moves under way: phase, a bar, percent, bytes done and left, rates, round, time left, expected downtime.</summary>
internal static class MigrationBoard
{
    private const int BarCells = 16;

    /// <summary>Columns in order of importance: a narrower terminal shows fewer of them.</summary>
    private static readonly IReadOnlyList<(int LeastWidth, string Header, Func<MigrationReport, string> Value)> Columns = Array.AsReadOnly<(int, string, Func<MigrationReport, string>)>(
    [
        (0, "vm", m => m.Vm.Value),
        (0, "move", m => $"{m.Source}→{m.Destination}"),
        (0, "phase", m => m.Progress?.Phase ?? m.State),
        (0, "progress", m => Bar(m.Progress?.Percent ?? (MigrationStates.IsFinal(m) ? 100 : 0))),
        (95, "downtime", m => Words.Millis(m.DowntimeMs ?? m.Progress?.ExpectedDowntimeMs)),
        (110, "mode", m => Words.Name(m.Mode)),
        (120, "left", m => m.Progress is { } progress ? Words.Bytes(progress.BytesLeft) : Words.None),
        (130, "eta", m => Words.Seconds(m.Progress?.EtaSeconds)),
        (145, "done", m => Words.Bytes(m.Progress?.BytesDone ?? m.Memory.WireBytes)),
        (160, "rate", m => Words.Rate(m.Progress?.Rate)),
        (175, "dirty", m => Words.Rate(m.Progress?.DirtyRate)),
        (185, "round", m => Words.Number(m.Progress?.Round ?? m.Rounds)),
    ]);

    public static IRenderable Draw(IEnumerable<MigrationReport> migrations, int width)
    {
        var table = new Table().Border(TableBorder.Rounded);
        var columns = Columns.Where(c => c.LeastWidth <= width).ToList();
        foreach (var column in columns)
            table.AddColumn(new TableColumn(column.Header).NoWrap());
        foreach (var migration in migrations)
            table.AddRow(columns.Select(c => new Text(c.Value(migration), c.Header is "phase" or "progress" ? StyleOf(migration) : Style.Plain)));
        return table;
    }

    /// <summary>The same on one line, for streams that are no terminal.</summary>
    public static string Line(MigrationReport migration) => migration.Progress is { } progress
        ? $"{migration.Vm} {migration.Source}→{migration.Destination}: {progress.Phase}, round {progress.Round}, {Words.Percent(progress.Percent)}, "
            + $"{Words.Bytes(progress.BytesDone)} done, {Words.Bytes(progress.BytesLeft)} left, {Words.Rate(progress.Rate)}, dirty {Words.Rate(progress.DirtyRate)}, "
            + $"eta {Words.Seconds(progress.EtaSeconds)}, expected downtime {Words.Millis(progress.ExpectedDowntimeMs)}"
            + (progress.CpuPercent is { } cpu ? $", guest held to {Words.Percent(cpu)} of its CPU time" : "")
        : $"{migration.Vm} {migration.Source}→{migration.Destination}: {migration.State}, total {Words.Millis(migration.TotalMs)}, downtime {Words.Millis(migration.DowntimeMs)}, verified {Words.YesNo(migration.Verified)}";

    private static string Bar(double percent)
    {
        int full = (int)Math.Round(Math.Clamp(percent, 0, 100) / 100 * BarCells);
        return new string('█', full) + new string('░', BarCells - full) + $" {Words.Percent(percent),5}";
    }

    private static Style StyleOf(MigrationReport migration) => migration.State switch
    {
        MigrationStates.Completed => new Style(Color.Green),
        "failed" or "aborted" or "lost" or "needs-fencing" => new Style(Color.Red),
        _ => new Style(Color.Blue),
    };
}
