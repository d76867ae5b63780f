using System.Xml.Linq;
using Fabric.Architecture.Sources;

namespace Fabric.Architecture.Rules;

/// <summary>Project references go one way. The table is the design: a new reference is a change of it, made here and explained.</summary>
public static class References
{
    /// <summary>Project → what it may refer to. Rows are in layers: a project names only projects above its row.</summary>
    public static IReadOnlyDictionary<string, string[]> Allowed { get; } = new Dictionary<string, string[]>
    {
        ["Fabric.Core"] = [],
        ["Fabric.Native"] = ["Fabric.Core"],
        ["Fabric.Actors"] = ["Fabric.Core"],
        ["Fabric.Journal"] = ["Fabric.Core"],
        ["Fabric.Migration"] = ["Fabric.Core"],
        ["Fabric.Wire"] = ["Fabric.Core", "Fabric.Migration"],
        ["Fabric.Machines"] = ["Fabric.Core", "Fabric.Native"],
        ["Fabric.Transfer"] = ["Fabric.Core", "Fabric.Native", "Fabric.Wire", "Fabric.Migration", "Fabric.Machines"],
        ["Fabric.Cluster"] = ["Fabric.Core", "Fabric.Actors", "Fabric.Journal", "Fabric.Wire"],
        ["Fabric.Host"] = ["Fabric.Core", "Fabric.Actors", "Fabric.Native", "Fabric.Wire", "Fabric.Migration", "Fabric.Machines", "Fabric.Transfer"],
        ["Fabric.Supervisor"] = ["Fabric.Core", "Fabric.Actors", "Fabric.Journal", "Fabric.Wire", "Fabric.Migration", "Fabric.Cluster"],
        ["Fabric.Api"] = ["Fabric.Core", "Fabric.Wire", "Fabric.Cluster", "Fabric.Host", "Fabric.Supervisor"],
        ["fabricd"] = ["Fabric.Api", "Fabric.Host", "Fabric.Supervisor"],
        ["fabric"] = ["Fabric.Core", "Fabric.Wire", "Fabric.Native", "Fabric.Machines"],
    };

    /// <summary>Checks src projects against the table; tests may refer to anything but other tests.</summary>
    public static IEnumerable<string> Violations(IEnumerable<TextFile> projects, IReadOnlyDictionary<string, string[]> allowed)
    {
        foreach (var file in projects)
        {
            string name = Path.GetFileNameWithoutExtension(file.Path);
            var names = XDocument.Parse(file.Content).Descendants("ProjectReference")
                .Select(e => (string?)e.Attribute("Include") ?? "")
                .Select(path => Path.GetFileNameWithoutExtension(path.Replace('\\', '/')));
            bool isTest = file.Path.StartsWith("tests/", StringComparison.Ordinal);
            if (!isTest && !allowed.ContainsKey(name))
                yield return $"{file.Path}: the project is not in the table of References.cs; say there what it may refer to";
            foreach (string reference in names)
            {
                if (isTest ? !allowed.ContainsKey(reference) : !allowed.GetValueOrDefault(name, []).Contains(reference))
                    yield return $"{file.Path}: refers to {reference}, which the table of References.cs does not allow";
            }
        }
    }

    /// <summary>A row of the table that names a project at or below itself would be an upward reference.</summary>
    public static IEnumerable<string> UpwardRows(IReadOnlyDictionary<string, string[]> allowed)
    {
        var seen = new HashSet<string>();
        foreach (var (project, references) in allowed)
        {
            foreach (string reference in references.Where(r => !seen.Contains(r)))
                yield return $"{project} may not refer upwards to {reference}";
            seen.Add(project);
        }
    }
}
