using System.Diagnostics;
using System.Globalization;
using Fabric.Simulation.Plants;
using Fabric.Simulation.Worlds;

namespace Fabric.Simulation;

/// <summary>The command line: --seeds A-B, --replay SEED, --plant NAME, --verbose. Exit code 0: as expected; 1: a violation, or a plant that was not found; 2: bad arguments.</summary>
internal static class Commands
{
    internal static int Run(string[] args, TextWriter output, Stopwatch watch)
    {
        if (Arguments.Parse(args) is not { } asked)
        {
            output.WriteLine("--seeds A-B | --replay SEED   [--plant NAME] [--verbose] [--keep-going]");
            output.WriteLine($"plants: {string.Join(", ", PlantedBugs.All.Keys)}");
            return 2;
        }

        int seeds = 0;
        int violations = 0;
        var virtualTime = TimeSpan.Zero;
        (int Migrations, int Completed) moved = (0, 0);
        for (int seed = asked.First; seed <= asked.Last; seed++)
        {
            var verdict = new World(Plan.Of(seed), asked.Plant, asked.Verbose ? output.WriteLine : null).Run();
            seeds++;
            virtualTime += verdict.VirtualTime;
            moved = (moved.Migrations + verdict.Migrations, moved.Completed + verdict.Completed);
            if (asked.Fingerprint)
                output.WriteLine(string.Create(CultureInfo.InvariantCulture, $"seed {seed}: {verdict.Fingerprint:x16}"));
            if (verdict.Violation is null || (asked.Plant is not null && new World(Plan.Of(seed)).Run().Violation is not null))
                continue; // a seed that fails without the planted bug says nothing about it
            violations++;
            output.WriteLine(string.Create(CultureInfo.InvariantCulture, $"seed {seed}: {verdict.Violation}"));
            if (!asked.KeepGoing)
            {
                Shrinking.Report(output, verdict, asked.Plant);
                break;
            }
        }

        output.WriteLine(string.Create(
            CultureInfo.InvariantCulture,
            $"{seeds} seeds, {violations} violations, {virtualTime.TotalHours:0.0} virtual hours, {moved.Migrations} migrations ({moved.Completed} completed), {watch.Elapsed.TotalSeconds:0.0} seconds"));
        return (violations > 0) == (asked.Plant is not null) ? 0 : 1;
    }

    private sealed record Arguments(int First, int Last, string? Plant, bool Verbose, bool KeepGoing, bool Fingerprint)
    {
        internal static Arguments? Parse(string[] args)
        {
            var asked = new Arguments(1, 100, null, false, false, false);
            for (int i = 0; i < args.Length; i++)
            {
                string? value = i + 1 < args.Length ? args[i + 1] : null;
                switch (args[i])
                {
                    case "--verbose": asked = asked with { Verbose = true }; break;
                    case "--keep-going": asked = asked with { KeepGoing = true }; break;
                    case "--fingerprint": asked = asked with { Fingerprint = true }; break;
                    case "--replay" when int.TryParse(value, CultureInfo.InvariantCulture, out int seed):
                        asked = asked with { First = seed, Last = seed };
                        i++;
                        break;
                    case "--seeds" when value?.Split('-') is [var from, var to] && int.TryParse(from, CultureInfo.InvariantCulture, out int first)
                        && int.TryParse(to, CultureInfo.InvariantCulture, out int last) && first <= last:
                        asked = asked with { First = first, Last = last };
                        i++;
                        break;
                    case "--plant" when value is not null && PlantedBugs.All.ContainsKey(value):
                        asked = asked with { Plant = value };
                        i++;
                        break;
                    default:
                        return null;
                }
            }

            return asked;
        }
    }
}
