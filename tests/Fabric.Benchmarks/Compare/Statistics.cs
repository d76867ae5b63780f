using System.Globalization;

namespace Fabric.Benchmarks.Compare;

/// <summary>Median with spread of some runs. The median, since one disturbed run on a busy machine must not decide.</summary>
public sealed record Statistics(int Count, double Median, double Least, double Most, double LowerQuartile, double UpperQuartile)
{
    /// <summary>Null where there is nothing to summarize.</summary>
    public static Statistics? Of(IEnumerable<double> values)
    {
        double[] sorted = [.. values.Order()];
        return sorted.Length == 0 ? null : new(sorted.Length, At(sorted, 0.5), sorted[0], sorted[^1], At(sorted, 0.25), At(sorted, 0.75));
    }

    /// <summary>Median (least – most), each with the decimals of <paramref name="format"/>.</summary>
    public string ToText(string format = "0.0")
    {
        return $"{Word(Median)} ({Word(Least)} – {Word(Most)})";

        string Word(double value) => value.ToString(format, CultureInfo.InvariantCulture);
    }

    /// <summary>Quantile by linear interpolation between neighbours (Hyndman and Fan 1996, type 7).</summary>
    private static double At(double[] sorted, double quantile)
    {
        double place = quantile * (sorted.Length - 1);
        int below = (int)place;
        return below + 1 < sorted.Length ? sorted[below] + (place - below) * (sorted[below + 1] - sorted[below]) : sorted[below];
    }
}
