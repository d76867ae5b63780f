using Fabric.Architecture.Sources;

namespace Fabric.Architecture.Rules;

/// <summary>A file that a reviewer can hold in mind, a function that fits on a screen.</summary>
public static class Sizes
{
    public const int FileLinesBelow = 400;
    public const int MemberLinesBelow = 60;

    public static IEnumerable<string> LongFiles(IEnumerable<TextFile> files) =>
        from file in files
        where file.LineCount >= FileLinesBelow
        select $"{file.Path}: {file.LineCount} lines, the bound is {FileLinesBelow - 1}: split it by concern";

    public static IEnumerable<string> LongMembers(IEnumerable<TextFile> files) =>
        from file in files
        from member in Members.Find(file)
        where member.LineCount >= MemberLinesBelow
        select $"{file.Path}:{member.FirstLine}: '{member.Head}' has {member.LineCount} lines, the bound is {MemberLinesBelow - 1}";
}
