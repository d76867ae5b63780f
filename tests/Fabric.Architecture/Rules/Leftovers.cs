using System.Text.RegularExpressions;
using Fabric.Architecture.Sources;

namespace Fabric.Architecture.Rules;

/// <summary>What is to be done is planned elsewhere, not left in the text.</summary>
public static class Leftovers
{
    // Put together, so that this file does not find itself.
    private static readonly Regex Marks = new(@"\b(" + "TO" + "DO|FIX" + "ME|XX" + @"X)\b", RegexOptions.Compiled);

    public static IEnumerable<string> Violations(IEnumerable<TextFile> files) =>
        from file in files
        from match in Marks.Matches(file.Content)
        select $"{file.Path}:{file.LineOf(match.Index)}: a leftover {match.Value}";
}
