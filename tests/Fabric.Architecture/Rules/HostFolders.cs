namespace Fabric.Architecture.Rules;

/// <summary>Each actor of a host has a folder with the same files: learn one, know all.</summary>
public static class HostFolders
{
    public static IReadOnlyList<string> Actors { get; } = ["Vm", "Memory", "Disk", "Balloon", "Link"];

    private static IReadOnlyList<string> Roles { get; } = ["Actor", "Messages", "State", "Metrics"];

    /// <param name="files">Paths below src/Fabric.Host, with '/'.</param>
    public static IEnumerable<string> Violations(IReadOnlyCollection<string> files) =>
        from actor in Actors
        from role in Roles
        let path = $"{actor}/{actor}{role}.cs"
        where !files.Contains(path)
        select $"src/Fabric.Host/{path} is missing";
}
