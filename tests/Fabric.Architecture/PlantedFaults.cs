using Fabric.Architecture.Rules;
using Fabric.Architecture.Sources;
using Xunit;

namespace Fabric.Architecture;

/// <summary>
/// A rule that never failed proves nothing. Each gets a planted fault here, which it must find, and something that looks
/// like a fault and is none, which it must let pass.
/// </summary>
public sealed class PlantedFaults
{
    private static TextFile Source(string content, string path = "src/Fabric.Core/Thing.cs") => new(path, content);

    private static TextFile Project(string name, params string[] references) => new(
        $"src/{name}/{name}.csproj",
        "<Project>" + string.Concat(references.Select(r => $"<ProjectReference Include=\"../{r}/{r}.csproj\" />")) + "</Project>");

    [Fact]
    public void An_upward_reference_is_found()
    {
        Assert.Single(References.Violations([Project("Fabric.Core", "Fabric.Api")], References.Allowed));
        Assert.Single(References.Violations([Project("Fabric.Unknown")], References.Allowed));
        Assert.Empty(References.Violations([Project("Fabric.Wire", "Fabric.Core")], References.Allowed));
        Assert.Single(References.UpwardRows(new Dictionary<string, string[]> { ["A"] = ["B"], ["B"] = [] }));
    }

    [Theory]
    [InlineData("class A { unsafe void M() { } }")]
    [InlineData("class A { [DllImport(\"libc\")] static extern int getpid(); }")]
    [InlineData("class A { [LibraryImport(\"libc\")] static partial int getpid(); }")]
    [InlineData("class A { byte M(nint p) => Marshal.ReadByte(p); }")]
    public void Native_code_elsewhere_is_found(string code)
    {
        Assert.Single(NativeCode.Violations([Source(code)]));
        Assert.Empty(NativeCode.Violations([Source(code, "src/Fabric.Native/Thing.cs")]));
        Assert.Equal(code.Contains("Marshal", StringComparison.Ordinal) ? 0 : 1, NativeCode.Violations([Source(code, "tests/Fabric.Unit/Thing.cs")]).Count());
    }

    [Fact]
    public void Words_about_native_code_are_let_pass()
    {
        Assert.Empty(NativeCode.Violations([Source("// unsafe\nclass A { string b = \"unsafe\"; /* DllImport */ char c = '\"'; string d = @\"unsafe \"\" unsafe\"; }")]));
        Assert.Single(NativeCode.ProjectViolations([new("src/Fabric.Wire/Fabric.Wire.csproj", "<AllowUnsafeBlocks>true</AllowUnsafeBlocks>")]));
        Assert.Empty(NativeCode.ProjectViolations([new("src/Fabric.Native/Fabric.Native.csproj", "<AllowUnsafeBlocks>true</AllowUnsafeBlocks>")]));
    }

    [Fact]
    public void A_long_file_is_found()
    {
        Assert.Single(Sizes.LongFiles([Source(new string('\n', 400))]));
        Assert.Empty(Sizes.LongFiles([Source(new string('\n', 399))]));
    }

    [Theory]
    [InlineData("void M(int a = 3)\n{", "}")]
    [InlineData("async Task<int> M<T>(T[] a)\n where T : struct {", "}")]
    [InlineData("int this[int i] { get {", "} }")]
    [InlineData("public static bool operator ==(A left, A right)\n{", "}")]
    [InlineData("int M(int a) => a switch {", "};")]
    public void A_long_function_is_found(string head, string tail)
    {
        string body = string.Concat(Enumerable.Repeat("{ Call(\"}}}\", '}', $\"{(x ? \"}\" : \"{\")}\"); }\n", 60));
        var found = Sizes.LongMembers([Source("namespace N;\n[Attribute(1, \"]\")]\npublic sealed record A(int X)\n{\n" + head + "\n" + body + tail + "\nint Short() => 1;\n}\n")]);
        Assert.Single(found);
    }

    [Fact]
    public void A_long_table_is_no_function()
    {
        string rows = string.Concat(Enumerable.Repeat("    { 1, 2 },\n", 80));
        Assert.Empty(Sizes.LongMembers([Source("class A\n{\n    static readonly Map Table = new()\n    {\n" + rows + "    };\n    Map Other { get; } = new() {\n" + rows + "};\n}\n")]));
    }

    [Fact]
    public void Members_are_counted_exactly()
    {
        const string Code = """
            namespace N
            {
                internal static class A
                {
                    [Fact]
                    [Other("{")]
                    public void First()
                    {
                        if (true) { Call(); }
                    }

                    public int Second(int x) =>
                        x +
                        1;

                    private enum E { X, Y }
                }
            }
            """;
        Assert.Equal(
            [new Member("public void First()", 7, 4), new Member("public int Second(int x) =>", 12, 3)],
            Members.Find(Source(Code)).Where(m => m.Head.Contains('(', StringComparison.Ordinal)));
    }

    [Fact]
    public void Raw_strings_are_no_code()
    {
        string quotes = new('"', 3);
        string code = $"class A {{ string s = {quotes}\n }} unsafe {{ \" \n {quotes}; string t = ${quotes} {{x}} unsafe {quotes}; unsafe void M() {{ }} }}";
        Assert.Single(NativeCode.Violations([Source(code)]));
        Assert.Equal(code.Length, CSharpText.Strip(code).Length);
    }

    [Theory]
    [InlineData("class FileUtils { }", 1)]
    [InlineData("static class Helper { }", 1)]
    [InlineData("namespace Fabric.Common;", 1)]
    [InlineData("record struct PageManager(int X);", 1)]
    [InlineData("class Commoner : MemoryManager<byte> { }", 0)]
    [InlineData("// class Helper\nclass Page { string s = \"class Utils\"; }", 0)]
    public void A_name_that_says_nothing_is_found(string code, int count) => Assert.Equal(count, Names.Violations([Source(code)]).Count());

    [Fact]
    public void A_path_that_says_nothing_is_found()
    {
        Assert.Single(Names.Violations([Source("", "src/Fabric.Core/Helpers/Page.cs")]));
        Assert.Empty(Names.Violations([Source("", "src/Fabric.Core/CommandId.cs")]));
    }

    [Fact]
    public void A_leftover_is_found()
    {
        Assert.Single(Leftovers.Violations([Source("// TO" + "DO: later")]));
        Assert.Empty(Leftovers.Violations([Source("// what to do, todo lists, HACKING.md")]));
    }

    [Fact]
    public void A_missing_file_of_an_actor_is_found()
    {
        var files = HostFolders.Actors.SelectMany(a => (string[])[$"{a}/{a}Actor.cs", $"{a}/{a}Messages.cs", $"{a}/{a}State.cs", $"{a}/{a}Metrics.cs"]).ToHashSet();
        Assert.Empty(HostFolders.Violations(files));
        files.Remove("Disk/DiskState.cs");
        Assert.Equal(["src/Fabric.Host/Disk/DiskState.cs is missing"], HostFolders.Violations(files));
    }

    [Fact]
    public void A_dead_link_is_found()
    {
        TextFile[] documents =
        [
            new("docs/A.md", "# One Thing: two\n[x](B.md) [y](B.md#part-1) [z](https://example.org/a) [w](#one-thing-two)\n`src/there/` `src/*.cs` `dotnet x`"),
            new("docs/B.md", "## Part 1\n"),
        ];
        bool Exists(string path) => path is "docs/A.md" or "docs/B.md" or "src/there/";
        Assert.Empty(Documents.DeadLinks(documents, Exists));
        Assert.Single(Documents.DeadLinks([new("docs/A.md", "[x](gone.md)")], Exists));
        Assert.Single(Documents.DeadLinks([new("docs/A.md", "[x](B.md#gone)"), documents[1]], Exists));
        Assert.Single(Documents.DeadLinks([new("docs/A.md", "see `src/gone/File.cs`")], Exists));
    }

    [Fact]
    public void An_incomplete_decision_is_found()
    {
        const string Whole = "# Why\n- **Created**: 2026\n- Status: accepted\n## Rejected alternatives\n";
        Assert.Empty(Documents.IncompleteDecisions([new("docs/decisions/0001.md", Whole)]));
        Assert.Single(Documents.IncompleteDecisions([new("docs/decisions/0001.md", Whole.Replace("Rejected", "Other", StringComparison.Ordinal))]));
        Assert.Equal(3, Documents.IncompleteDecisions([new("docs/decisions/0001.md", "")]).Count());
    }

    [Fact]
    public void A_project_that_is_not_on_the_map_is_found()
    {
        Assert.Empty(Documents.UnnamedProjects(["Fabric.Core", "fabric"], "`Fabric.Core` is below `fabric`."));
        Assert.Equal(["docs/ARCHITECTURE.md does not name fabric"], Documents.UnnamedProjects(["Fabric.Core", "fabric"], "Fabric.Core, fabricd"));
    }

    [Fact]
    public void Static_mutable_state_is_found()
    {
        var found = StaticState.Violations(typeof(PlantedState).Assembly.Location).Where(v => v.Contains(nameof(PlantedState), StringComparison.Ordinal)).ToList();
        Assert.Contains(found, v => v.Contains(".Assignable ", StringComparison.Ordinal));
        Assert.Contains(found, v => v.Contains("<Property>", StringComparison.Ordinal));
        Assert.Contains(found, v => v.Contains(".Array ", StringComparison.Ordinal));
        Assert.Contains(found, v => v.Contains(".List ", StringComparison.Ordinal));
        Assert.Equal(4, found.Count);
    }

    /// <summary>What the rule must find, and beside it what it must not.</summary>
    private static class PlantedState
    {
        public const int Constant = 1;
        public static readonly string Text = "fixed";
        public static readonly IReadOnlyList<int> View = System.Array.AsReadOnly([1]);
        public static readonly Func<int> Cached = static () => Constant;
        public static readonly int[] Array = [1];
        public static readonly List<int> List = [];
        public static int Assignable = Constant;

        public static int Property { get; set; }

        public static int ReadOnlyProperty { get; } = Constant;
    }
}
