using System.Globalization;
using Fabric.Simulation.Worlds;

namespace Fabric.Simulation;

/// <summary>Makes a failing schedule small: leaves entries out, in ever smaller pieces, as long as the same invariant is still violated (delta debugging).</summary>
internal static class Shrinking
{
    /// <summary>Runs that one shrinking may take.</summary>
    private const int MostRuns = 150;

    internal static (Plan Plan, Verdict Verdict) Shrink(Plan plan, Verdict verdict, string? plant)
    {
        string invariant = Invariant(verdict);
        int runs = 0;
        for (int piece = Math.Max(1, plan.Schedule.Count / 2); ; piece = Math.Max(1, piece / 2))
        {
            bool smaller = false;
            for (int from = 0; from < plan.Schedule.Count && runs < MostRuns; runs++)
            {
                var candidate = plan with { Schedule = [.. plan.Schedule.Take(from), .. plan.Schedule.Skip(from + piece)] };
                var found = new World(candidate, plant).Run();
                if (found.Violation is not null && Invariant(found) == invariant)
                    (plan, verdict, smaller) = (candidate, found, true);
                else
                    from += piece;
            }

            if (runs >= MostRuns || (piece == 1 && !smaller))
                return (plan, verdict);
        }
    }

    internal static void Report(TextWriter output, Verdict verdict, string? plant)
    {
        var whole = Plan.Of(verdict.Seed);
        var (plan, shrunk) = Shrink(whole, verdict, plant);
        output.WriteLine(string.Create(
            CultureInfo.InvariantCulture, $"shrunk from {whole.Schedule.Count} to {plan.Schedule.Count} entries ({plan.Hosts} hosts, {plan.Nodes} nodes): {shrunk.Violation}"));
        foreach (var entry in plan.Schedule)
            output.WriteLine($"  {entry}");
        output.WriteLine(string.Create(
            CultureInfo.InvariantCulture, $"again: dotnet run -c Release --project tests/Fabric.Simulation -- --replay {verdict.Seed}{(plant is null ? "" : $" --plant {plant}")} --verbose"));
    }

    private static string Invariant(Verdict verdict) => verdict.Violation!.Split(' ')[0];
}
