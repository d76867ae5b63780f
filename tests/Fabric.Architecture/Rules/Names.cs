using System.Text.RegularExpressions;
using Fabric.Architecture.Sources;

namespace Fabric.Architecture.Rules;

/// <summary>A name says what a thing is. These words say only that nobody knew.</summary>
public static partial class Names
{
    [GeneratedRegex(@"(?<![A-Za-z])(Utils?|Utilities|Utility|Helpers?|Managers?|Common)(?![a-z])|(?<=[a-z])(Utils?|Utilities|Utility|Helpers?|Managers?|Common)(?![a-z])")]
    private static partial Regex Empty();

    [GeneratedRegex(@"\b(?:class|struct|interface|record|enum|namespace)\s+(?:class\s+|struct\s+)?([A-Za-z_][\w.]*)")]
    private static partial Regex Declared();

    public static IEnumerable<string> Violations(IEnumerable<TextFile> sources)
    {
        foreach (var file in sources)
        {
            if (Empty().IsMatch(file.Path))
                yield return $"{file.Path}: the path holds a name that says nothing ({Empty().Match(file.Path).Value})";
            foreach (Match match in Declared().Matches(CSharpText.Strip(file.Content)))
            {
                if (Empty().IsMatch(match.Groups[1].Value))
                    yield return $"{file.Path}:{file.LineOf(match.Index)}: '{match.Groups[1].Value}' holds a name that says nothing";
            }
        }
    }
}
