using System.Text.RegularExpressions;
using Fabric.Architecture.Sources;

namespace Fabric.Architecture.Rules;

/// <summary>
/// Pointers and foreign functions live in Fabric.Native alone. Managed code that touches a missing guest page can freeze the
/// whole process, so the ways around the compiler's check (Marshal, Unsafe) are closed as well.
/// </summary>
public static partial class NativeCode
{
    public const string Home = "Fabric.Native";

    [GeneratedRegex(@"\b(unsafe|DllImport|LibraryImport)\b")]
    private static partial Regex Keyword();

    [GeneratedRegex(@"\b(Marshal\.(Read|Write|Copy|PtrTo|StructureTo)\w*|Unsafe\.(As|Add|Read|Write|Copy|Init)\w*)")]
    private static partial Regex Detour();

    public static IEnumerable<string> Violations(IEnumerable<TextFile> sources) =>
        from file in sources
        where file.Project != Home
        let code = CSharpText.Strip(file.Content)
        // Tests may look at the memory of a machine that they know to stand still.
        from match in Keyword().Matches(code).Concat(file.Path.StartsWith("tests/", StringComparison.Ordinal) ? [] : Detour().Matches(code))
        select $"{file.Path}:{file.LineOf(match.Index)}: '{match.Value}' belongs into {Home}";

    public static IEnumerable<string> ProjectViolations(IEnumerable<TextFile> projects) =>
        from file in projects
        where file.Project != Home && Regex.IsMatch(file.Content, @"<AllowUnsafeBlocks>\s*true")
        select $"{file.Path}: AllowUnsafeBlocks belongs into {Home} alone";
}
