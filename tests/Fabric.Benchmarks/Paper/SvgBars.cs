using System.Globalization;
using System.Net;
using System.Text;

namespace Fabric.Benchmarks.Paper;

/// <summary>One colour of bars, a value for each group; null leaves a gap.</summary>
public sealed record BarSeries(string Name, IReadOnlyList<double?> Values);

/// <summary>A chart of grouped bars as an SVG file, without any library: what it draws is written beside each bar as a number too.</summary>
public static class SvgBars
{
    private const int Width = 900;
    private const int Height = 420;
    private const int Left = 70;
    private const int Right = 20;
    private const int Top = 70;
    private const int Bottom = 50;

    private static readonly string[] Colours = ["#355c7d", "#f67280", "#6c9a8b", "#e8a33d", "#8e6c8a", "#4aa3a2", "#b5651d", "#777777"];

    /// <param name="title">Above the chart.</param>
    /// <param name="unit">Of the values: the label of the upright axis.</param>
    /// <param name="groups">Names below the axis.</param>
    /// <param name="series">Values as many as there are groups.</param>
    public static string Draw(string title, string unit, IReadOnlyList<string> groups, IReadOnlyList<BarSeries> series)
    {
        ArgumentNullException.ThrowIfNull(groups);
        ArgumentNullException.ThrowIfNull(series);
        double most = series.SelectMany(static s => s.Values).Max() is > 0 and var top ? Round(top) : 1;
        var svg = new StringBuilder();
        svg.Append(CultureInfo.InvariantCulture, $"<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {Width} {Height}\" font-family=\"sans-serif\" font-size=\"12\">\n");
        svg.Append(CultureInfo.InvariantCulture, $"<rect width=\"{Width}\" height=\"{Height}\" fill=\"white\"/>\n");
        Text(svg, Left, 22, title, "font-size=\"16\" font-weight=\"bold\"");
        Legend(svg, series);
        for (int i = 0; i <= 4; i++)
        {
            double y = Y(most * i / 4, most);
            svg.Append(CultureInfo.InvariantCulture, $"<line x1=\"{Left}\" y1=\"{y:0.#}\" x2=\"{Width - Right}\" y2=\"{y:0.#}\" stroke=\"#dddddd\"/>\n");
            Text(svg, Left - 6, y + 4, (most * i / 4).ToString("0.##", CultureInfo.InvariantCulture), "text-anchor=\"end\"");
        }

        Text(svg, 8, Top - 8, unit, "");
        double group = (Width - Left - Right) / (double)groups.Count;
        double bar = group * 0.8 / series.Count;
        for (int g = 0; g < groups.Count; g++)
        {
            double x = Left + (group * (g + 0.1));
            Text(svg, x + (group * 0.4), Height - Bottom + 18, groups[g], "text-anchor=\"middle\"");
            for (int s = 0; s < series.Count; s++)
            {
                if (series[s].Values[g] is { } value)
                    Bar(svg, x + (bar * s), bar * 0.92, value, most, Colours[s % Colours.Length]);
            }
        }

        return svg.Append("</svg>\n").ToString();
    }

    private static void Legend(StringBuilder svg, IReadOnlyList<BarSeries> series)
    {
        double x = Left;
        for (int s = 0; s < series.Count; s++)
        {
            svg.Append(CultureInfo.InvariantCulture, $"<rect x=\"{x:0.#}\" y=\"34\" width=\"12\" height=\"12\" fill=\"{Colours[s % Colours.Length]}\"/>\n");
            Text(svg, x + 17, 44, series[s].Name, "");
            x += 34 + (7 * series[s].Name.Length);
        }
    }

    private static void Bar(StringBuilder svg, double x, double width, double value, double most, string colour)
    {
        double y = Y(value, most);
        svg.Append(CultureInfo.InvariantCulture, $"<rect x=\"{x:0.#}\" y=\"{y:0.#}\" width=\"{width:0.#}\" height=\"{Height - Bottom - y:0.#}\" fill=\"{colour}\"/>\n");
        Text(svg, x + (width / 2), y - 3, value.ToString(value < 10 ? "0.#" : "0", CultureInfo.InvariantCulture), "text-anchor=\"middle\" font-size=\"10\"");
    }

    private static void Text(StringBuilder svg, double x, double y, string text, string style) =>
        svg.Append(CultureInfo.InvariantCulture, $"<text x=\"{x:0.#}\" y=\"{y:0.#}\" {style}>{WebUtility.HtmlEncode(text)}</text>\n");

    private static double Y(double value, double most) => Height - Bottom - ((Height - Bottom - Top) * Math.Min(value / most, 1));

    /// <summary>The next of 1, 2, 2.5, 5, 10 × a power of ten.</summary>
    private static double Round(double value)
    {
        double power = Math.Pow(10, Math.Floor(Math.Log10(value)));
        return power * (value / power) switch { <= 1 => 1, <= 2 => 2, <= 2.5 => 2.5, <= 5 => 5, _ => 10 };
    }
}
