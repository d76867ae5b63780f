namespace Fabric.Architecture.Sources;

/// <summary>One text file: its path from the repository's root, with '/', and its content.</summary>
public sealed record TextFile(string Path, string Content)
{
    /// <summary>Lines, not counting the empty one after the last line end.</summary>
    public int LineCount => Content.Length == 0 ? 0 : Content.AsSpan().Count('\n') + (Content[^1] == '\n' ? 0 : 1);

    /// <summary>1-based line of a position in the content.</summary>
    public int LineOf(int position) => Content.AsSpan(0, position).Count('\n') + 1;

    /// <summary>src/NAME or tests/NAME → NAME; empty elsewhere.</summary>
    public string Project => Path.Split('/') is ["src" or "tests", var name, _, ..] ? name : "";

    public string Name => System.IO.Path.GetFileName(Path);
}

/// <summary>The checked-out tree, found upwards from the test assembly. Build output is never part of it.</summary>
public static class Repository
{
    public static string Root { get; } = FindRoot();

    /// <summary>Debug or Release: whichever these tests were built as, all projects were.</summary>
    public static string Configuration { get; } = new DirectoryInfo(AppContext.BaseDirectory).Parent!.Name;

    /// <summary>All files below the folders whose names end with one of the endings.</summary>
    public static IReadOnlyList<TextFile> Read(string[] folders, params string[] endings) =>
    [
        .. folders
            .Select(folder => Path.Combine(Root, folder))
            .SelectMany(path => File.Exists(path) ? [path] : Directory.Exists(path) ? Walk(path) : [])
            .Where(path => endings.Any(ending => path.EndsWith(ending, StringComparison.Ordinal)))
            .Order(StringComparer.Ordinal)
            .Select(path => new TextFile(Relative(path), File.ReadAllText(path))),
    ];

    public static IReadOnlyList<TextFile> CSharp() => Read(["src", "tests"], ".cs");

    public static IReadOnlyList<TextFile> ProjectFiles() => Read(["src", "tests"], ".csproj");

    /// <summary>Whether a path from the root names a file or folder.</summary>
    public static bool Exists(string path)
    {
        string full = Path.GetFullPath(Path.Combine(Root, path));
        return File.Exists(full) || Directory.Exists(full);
    }

    /// <summary>The built assembly of each project in src, where it has been built in this configuration.</summary>
    public static IEnumerable<string> BuiltAssemblies() =>
        from project in Directory.EnumerateFiles(Path.Combine(Root, "src"), "*.csproj", SearchOption.AllDirectories)
        let file = Path.Combine(Path.GetDirectoryName(project)!, "bin", Configuration, "net10.0", Path.GetFileNameWithoutExtension(project) + ".dll")
        where File.Exists(file)
        select file;

    private static string Relative(string path) => Path.GetRelativePath(Root, path).Replace('\\', '/');

    private static IEnumerable<string> Walk(string folder)
    {
        foreach (string file in Directory.EnumerateFiles(folder))
            yield return file;
        foreach (string child in Directory.EnumerateDirectories(folder))
        {
            if (Path.GetFileName(child) is "bin" or "obj" or "artifacts" or "TestResults" or ".git")
                continue;
            foreach (string file in Walk(child))
                yield return file;
        }
    }

    private static string FindRoot()
    {
        for (var folder = new DirectoryInfo(AppContext.BaseDirectory); folder is not null; folder = folder.Parent)
        {
            if (File.Exists(Path.Combine(folder.FullName, "Fabric.sln")))
                return folder.FullName;
        }

        throw new InvalidOperationException("The tests do not run inside the repository: no Fabric.sln above " + AppContext.BaseDirectory);
    }
}
