using System.Globalization;
using System.Text.RegularExpressions;

namespace Fabric.Cli.Demo;

/// <summary>One line of a synthetic guest's console: <c>tick 12 time 1767225600.123456 errors 0 ops 4800</c>.</summary>
internal readonly partial record struct SyntheticTick(long Number, long Errors, long Operations)
{
    /// <summary>The last whole line of a tick in the text, or null.</summary>
    public static SyntheticTick? LastIn(string text)
    {
        var lines = Line().Matches(text);
        if (lines.Count == 0)
            return null;
        var groups = lines[^1].Groups;
        return long.TryParse(groups["tick"].Value, NumberStyles.None, CultureInfo.InvariantCulture, out long tick)
            && long.TryParse(groups["errors"].Value, NumberStyles.None, CultureInfo.InvariantCulture, out long errors)
            && long.TryParse(groups["ops"].Value, NumberStyles.None, CultureInfo.InvariantCulture, out long operations)
            ? new SyntheticTick(tick, errors, operations)
            : null;
    }

    [GeneratedRegex(@"^tick (?<tick>\d+) time [\d.]+ errors (?<errors>\d+) ops (?<ops>\d+)\n", RegexOptions.Multiline | RegexOptions.ExplicitCapture, matchTimeoutMilliseconds: 1000)]
    private static partial Regex Line();
}
