using System.Text.RegularExpressions;
using Fabric.Architecture.Sources;

namespace Fabric.Architecture.Rules;

/// <summary>A map that points at what is gone is worse than none.</summary>
public static partial class Documents
{
    [GeneratedRegex(@"(?<!!)\[[^\]\n]*\]\(([^)\s]+)\)|!\[[^\]\n]*\]\(([^)\s]+)\)")]
    private static partial Regex Link();

    /// <summary>A path in code quotes that begins with a folder of this repository and holds no pattern.</summary>
    [GeneratedRegex(@"`((?:src|tests|docs|guests|deploy|cluster-config)/[\w./-]*)`")]
    private static partial Regex QuotedPath();

    [GeneratedRegex(@"^#{1,6}\s+(.*?)\s*$", RegexOptions.Multiline)]
    private static partial Regex Heading();

    /// <param name="documents">Markdown files.</param>
    /// <param name="exists">Whether a path from the root exists.</param>
    public static IEnumerable<string> DeadLinks(IReadOnlyCollection<TextFile> documents, Func<string, bool> exists)
    {
        foreach (var file in documents)
        {
            string folder = Path.GetDirectoryName(file.Path) ?? "";
            foreach (Match match in Link().Matches(file.Content))
            {
                string target = match.Groups[1].Success ? match.Groups[1].Value : match.Groups[2].Value;
                if (target.Contains("://", StringComparison.Ordinal) || target.StartsWith("mailto:", StringComparison.Ordinal))
                    continue;
                string[] parts = target.Split('#', 2);
                string path = parts[0].Length == 0 ? file.Path : Normal(folder, parts[0]);
                if (!exists(path))
                    yield return $"{file.Path}:{file.LineOf(match.Index)}: '{target}' leads nowhere";
                else if (parts.Length == 2 && documents.FirstOrDefault(d => d.Path == path) is { } other && !Anchors(other).Contains(parts[1]))
                    yield return $"{file.Path}:{file.LineOf(match.Index)}: {path} has no heading for '#{parts[1]}'";
            }

            foreach (Match match in QuotedPath().Matches(file.Content))
            {
                if (!exists(match.Groups[1].Value))
                    yield return $"{file.Path}:{file.LineOf(match.Index)}: there is no {match.Groups[1].Value}";
            }
        }
    }

    /// <summary>A decision without its date, its standing and what was turned down cannot be judged later.</summary>
    public static IEnumerable<string> IncompleteDecisions(IEnumerable<TextFile> documents) =>
        from file in documents
        where file.Path.StartsWith("docs/decisions/", StringComparison.Ordinal) && !file.Name.Equals("README.md", StringComparison.OrdinalIgnoreCase)
        from word in (string[])["Created", "Status", "Rejected"]
        where !Regex.IsMatch(file.Content, $@"^\W*{word}\b", RegexOptions.Multiline)
        select $"{file.Path}: no line begins with '{word}'";

    public static IEnumerable<string> UnnamedProjects(IEnumerable<string> projects, string architecture) =>
        from project in projects
        where !Regex.IsMatch(architecture, $@"(?<![\w.]){Regex.Escape(project)}(?![\w]|\.\w)")
        select $"docs/ARCHITECTURE.md does not name {project}";

    private static HashSet<string> Anchors(TextFile file) =>
    [
        .. Heading().Matches(file.Content)
            .Select(m => Regex.Replace(m.Groups[1].Value.ToLowerInvariant(), @"[^\w\- ]", "").Replace(' ', '-')),
    ];

    private static string Normal(string folder, string target) =>
        Path.GetRelativePath("/", Path.GetFullPath(Path.Combine("/", folder, target))).Replace('\\', '/');
}
