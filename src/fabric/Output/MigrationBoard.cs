using Fabric.Wire.Api;
using Spectre.Console;
using Spectre.Console.Rendering;

namespace Fabric.Cli.Output;

/// <summary>Draws moves under way: phase, a bar, percent, bytes done and left, rates, round, time left, expected downtime.</summary>
internal static class MigrationBoard
{
    private const int BarCells = 20;

    public static IRenderable Draw(IEnumerable<MigrationReport> migrations)
    {
        var table = new Table().Border(TableBorder.Rounded);
        foreach (string header in (string[])["vm", "move", "mode", "phase", "progress", "done", "left", "rate", "dirty", "round", "eta", "downtime"])
            table.AddColumn(new TableColumn(header).NoWrap());
        foreach (var migration in migrations)
            table.AddRow(Row(migration));
        return table;
    }

    /// <summary>The same on one line, for streams that are no terminal.</summary>
    public static string Line(MigrationReport migration) => migration.Progress is { } progress
        ? $"{migration.Vm} {migration.Source}→{migration.Destination}: {progress.Phase}, round {progress.Round}, {Words.Percent(progress.Percent)}, "
            + $"{Words.Bytes(progress.BytesDone)} done, {Words.Bytes(progress.BytesLeft)} left, {Words.Rate(progress.Rate)}, dirty {Words.Rate(progress.DirtyRate)}, "
            + $"eta {Words.Seconds(progress.EtaSeconds)}, expected downtime {Words.Millis(progress.ExpectedDowntimeMs)}"
        : $"{migration.Vm} {migration.Source}→{migration.Destination}: {migration.State}, total {Words.Millis(migration.TotalMs)}, downtime {Words.Millis(migration.DowntimeMs)}, verified {Words.YesNo(migration.Verified)}";

    private static IEnumerable<IRenderable> Row(MigrationReport migration)
    {
        var progress = migration.Progress;
        double percent = progress?.Percent ?? (MigrationStates.IsFinal(migration) ? 100 : 0);
        return
        [
            new Text(migration.Vm.Value),
            new Text($"{migration.Source}→{migration.Destination}"),
            new Text(Words.Name(migration.Mode)),
            new Text(progress?.Phase ?? migration.State, StyleOf(migration)),
            new Text(Bar(percent), StyleOf(migration)),
            new Text(Words.Bytes(progress?.BytesDone ?? migration.Memory.WireBytes)),
            new Text(progress is null ? Words.None : Words.Bytes(progress.BytesLeft)),
            new Text(Words.Rate(progress?.Rate)),
            new Text(Words.Rate(progress?.DirtyRate)),
            new Text(Words.Number(progress?.Round ?? migration.Rounds)),
            new Text(Words.Seconds(progress?.EtaSeconds)),
            new Text(Words.Millis(migration.DowntimeMs ?? progress?.ExpectedDowntimeMs)),
        ];
    }

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
