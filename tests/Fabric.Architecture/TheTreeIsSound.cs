using Fabric.Architecture.Rules;
using Fabric.Architecture.Sources;
using Xunit;

namespace Fabric.Architecture;

/// <summary>
/// The rules of docs/HACKING.md, applied to this tree. That each rule can fail is shown in <see cref="PlantedFaults"/>.
/// </summary>
public sealed class TheTreeIsSound
{
    private static readonly string[] WrittenFolders = ["src", "tests", "guests", "deploy", "docs", "cluster-config", "README.md", "fabric", "test.sh", ".ci"];

    [Fact]
    public void References_go_one_way()
    {
        Expect.Nothing(References.Violations(Repository.ProjectFiles(), References.Allowed));
        Expect.Nothing(References.UpwardRows(References.Allowed));
    }

    [Fact]
    public void Every_row_of_the_reference_table_is_a_project()
    {
        var projects = Repository.ProjectFiles().Select(p => Path.GetFileNameWithoutExtension(p.Path));
        Assert.Empty(References.Allowed.Keys.Except(projects));
    }

    [Fact]
    public void Native_code_stays_at_home()
    {
        Expect.Nothing(NativeCode.Violations(Repository.CSharp()));
        Expect.Nothing(NativeCode.ProjectViolations(Repository.ProjectFiles()));
    }

    [Fact]
    public void Files_are_short() => Expect.Nothing(Sizes.LongFiles(Repository.Read(["src", "tests", "guests"], ".cs", ".c", ".h", ".sh")));

    [Fact]
    public void Functions_are_short() => Expect.Nothing(Sizes.LongMembers(Repository.CSharp()));

    [Fact]
    public void Names_say_something() => Expect.Nothing(Names.Violations(Repository.CSharp()));

    [Fact]
    public void There_is_no_static_mutable_state()
    {
        var assemblies = Repository.BuiltAssemblies().ToList();
        Assert.True(assemblies.Count > 0, $"Nothing is built as {Repository.Configuration}: dotnet build Fabric.sln -c {Repository.Configuration}");
        Expect.Nothing(assemblies.SelectMany(StaticState.Violations));
    }

    [Fact]
    public void Nothing_is_left_to_do_in_the_text() =>
        Expect.Nothing(Leftovers.Violations(Repository.Read(WrittenFolders, ".cs", ".c", ".h", ".sh", ".md", ".yaml", "fabric", "run", "init")));

    [Fact]
    public void Decisions_are_complete()
    {
        var decisions = Repository.Read(["docs/decisions"], ".md");
        Assert.True(decisions.Count > 0, "docs/decisions holds no decision record");
        Expect.Nothing(Documents.IncompleteDecisions(decisions));
    }

    [Fact]
    public void Links_in_documents_lead_somewhere() =>
        Expect.Nothing(Documents.DeadLinks(Repository.Read(["docs", "guests", "deploy", "cluster-config", "README.md"], ".md"), Repository.Exists));

    [Fact]
    public void Every_project_is_on_the_map()
    {
        var map = Repository.Read(["docs/ARCHITECTURE.md"], ".md");
        Assert.True(map.Count == 1, "docs/ARCHITECTURE.md is missing");
        Expect.Nothing(Documents.UnnamedProjects(Repository.ProjectFiles().Select(p => Path.GetFileNameWithoutExtension(p.Path)), map[0].Content));
    }

    [Fact]
    public void Every_actor_of_a_host_has_the_same_files()
    {
        const string Host = "src/Fabric.Host/";
        var files = Repository.Read(["src/Fabric.Host"], ".cs").Select(f => f.Path[Host.Length..]).ToHashSet();
        Expect.Nothing(HostFolders.Violations(files));
    }
}
