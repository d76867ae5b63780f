using Fabric.Cli.Local;
using Fabric.Core;
using Xunit;

namespace Fabric.Unit.Cli;

/// <summary>The files of <c>fabric up --config</c>: the three in cluster-config are valid and are what their names say, and whatever is wrong is named with its line.</summary>
public sealed class TopologyFileTests
{
    private const string Valid = "name: t\ncontrol_nodes: [c]\nhosts: [{name: a, site: east, memory_limit: 64M}, {name: b}]\nstore: sqlite\n";

    [Theory]
    [InlineData("local.yaml", 1, 3, typeof(SqliteStore), new string[0])]
    [InlineData("one-site.yaml", 3, 4, typeof(ManagedPostgresStore), new[] { "main" })]
    [InlineData("two-sites.yaml", 3, 4, typeof(ManagedPostgresStore), new[] { "east", "west" })]
    public void The_files_of_the_tree_are_valid(string file, int controls, int hosts, Type store, string[] sites)
    {
        var plan = TopologyFile.Read(Path.Combine(DaemonConfigTests.Root(), "cluster-config", file));
        Assert.Equal((file, controls, hosts, store), (plan.Name + ".yaml", plan.Controls.Count, plan.Hosts.Count, plan.Store.GetType()));
        Assert.Equal(sites, plan.Hosts.Select(static h => h.Site?.Value).OfType<string>().Distinct());
        Assert.Equal(new TopologyLimits(2, 2, 2), plan.Limits);
    }

    [Fact]
    public void What_a_file_says_is_read()
    {
        var plan = TopologyFile.Parse(Valid + "limits: {moves_per_link: 5}\n", "t.yaml");
        Assert.True(SiteName.TryParse("east", out var east));
        Assert.Equal([new TopologyHost("a", east, 64 * ByteSize.Mebi), new TopologyHost("b")], plan.Hosts);
        Assert.Equal(new TopologyLimits(null, null, 5), plan.Limits);
        var there = Assert.IsType<PostgresStore>(TopologyFile.Parse(Valid.Replace("sqlite", "{postgresql: {connection: Host=db;Password=x}}", StringComparison.Ordinal), "t.yaml").Store);
        Assert.Equal("Host=db;Password=x", there.Connection);
        Assert.DoesNotContain("Password", there.ToString(), StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("store: sqlite", "store: sqlite\ncolour: red", "t.yaml:5: unknown key 'colour'")]
    [InlineData("site: east", "place: east", "t.yaml:3: unknown key 'hosts.place'")]
    [InlineData("store: sqlite", "store: sqlite\nlimits:\n  moves_per_host: 1", "t.yaml:6: unknown key 'limits.moves_per_host'")]
    [InlineData("store: sqlite", "store: {postgresql: {connection: x, pool: 3}}", "t.yaml:4: unknown key 'store.postgresql.pool'")]
    [InlineData("store: sqlite", "store: sqlite\nstore: sqlite", "t.yaml:5: ")]
    [InlineData("store: sqlite", "store: oracle", "t.yaml:4: store = 'oracle'")]
    [InlineData("store: sqlite", "store: [sqlite]", "t.yaml:4: store must be a mapping")]
    [InlineData("store: sqlite", "store: {postgresql: mine}", "t.yaml:4: store.postgresql is neither")]
    [InlineData("store: sqlite", "store: {postgresql: {}}", "t.yaml:4: store.postgresql.connection is missing")]
    [InlineData("store: sqlite", "", "t.yaml:1: store is missing")]
    [InlineData("store: sqlite", "store: sqlite\nlimits: {moves_per_link: 0}", "t.yaml:5: limits.moves_per_link = '0'")]
    [InlineData("store: sqlite", "store: sqlite\nlimits: {moves_per_link: two}", "t.yaml:5: limits.moves_per_link = 'two'")]
    [InlineData("store: sqlite", "store: sqlite\nlimits: 2", "t.yaml:5: limits must be a mapping")]
    [InlineData("name: t", "name: [t]", "t.yaml:1: name must be one plain value")]
    [InlineData("name: t", "name: T", "t.yaml:1: name = 'T'")]
    [InlineData("name: t\n", "", "t.yaml:1: name is missing")]
    [InlineData("[c]", "c", "t.yaml:2: control_nodes must be a list")]
    [InlineData("[c]", "[]", "t.yaml:2: control_nodes has 0 entries")]
    [InlineData("[c]", "[c1, c2, c3, c4, c5, c6]", "t.yaml:2: control_nodes has 6 entries")]
    [InlineData("[c]", "[c, c]", "t.yaml:2: the name 'c' is taken")]
    [InlineData("[c]", "[a]", "t.yaml:3: the name 'a' is taken")]
    [InlineData("[c]", "[postgresql]", "t.yaml:2: the name 'postgresql' is taken")]
    [InlineData("[c]", "[{name: c}]", "t.yaml:2: control_nodes must be one plain value")]
    [InlineData("{name: b}", "{name: b}, {name: d}, {name: e}, {name: f}, {name: g}, {name: h}, {name: i}, {name: j}", "t.yaml:3: hosts has 9 entries")]
    [InlineData("{name: b}", "b", "t.yaml:3: hosts must be a mapping")]
    [InlineData("{name: b}", "{site: east}", "t.yaml:3: hosts.name is missing")]
    [InlineData("{name: b}", "{name: a}", "t.yaml:3: the name 'a' is taken")]
    [InlineData("{name: b}", "{name: ../b}", "t.yaml:3: name = '../b'")]
    [InlineData("site: east", "site: East", "t.yaml:3: hosts.site = 'East'")]
    [InlineData("site: east", "site: ''", "t.yaml:3: hosts.site must be one plain value")]
    [InlineData("64M", "plenty", "t.yaml:3: hosts.memory_limit = 'plenty'")]
    [InlineData("64M", "64.5M", "t.yaml:3: hosts.memory_limit = '64.5M'")]
    [InlineData("64M", "-64M", "t.yaml:3: hosts.memory_limit = '-64M'")]
    [InlineData("64M", "0", "t.yaml:3: hosts.memory_limit = '0'")]
    [InlineData("64M", "9999999T", "t.yaml:3: hosts.memory_limit = '9999999T'")]
    [InlineData("name: t", "- t", "t.yaml:")]
    public void What_is_wrong_is_named_with_its_line(string right, string wrong, string expected)
    {
        string yaml = Valid.Replace(right, wrong, StringComparison.Ordinal);
        Assert.NotEqual(Valid, yaml);
        var error = Assert.Throws<FabricException>(() => TopologyFile.Parse(yaml, "t.yaml"));
        Assert.Equal(ErrorCodes.InvalidArgument, error.Error.Code);
        Assert.StartsWith(expected, error.Error.Message, StringComparison.Ordinal);
    }

    [Fact]
    public async Task A_wrong_file_ends_with_2_and_nothing_starts()
    {
        var folder = Directory.CreateTempSubdirectory("fabric-topology-");
        try
        {
            string file = Path.Combine(folder.FullName, "t.yaml");
            await File.WriteAllTextAsync(file, Valid + "colour: red\n");

            // A directory that no cluster can have: if the file were taken, this would be refused next, and no daemon started.
            var run = await CliRun.Async(null, "up", "--config", file, "--dir", "/tmp/" + new string('x', 100));
            Assert.StartsWith("error: t.yaml:5: unknown key 'colour'", run.Talk, StringComparison.Ordinal);
            Assert.Equal(2, run.Code);
        }
        finally
        {
            folder.Delete(recursive: true);
        }
    }

    [Theory]
    [InlineData("--hosts", "2")]
    [InlineData("--controls", "2")]
    [InlineData("--database", "Host=x")]
    public async Task A_file_and_the_options_that_it_replaces_exclude_each_other(string option, string value)
    {
        var run = await CliRun.Async(null, "up", "--config", "t.yaml", option, value);
        Assert.Equal(2, run.Code);
        Assert.Contains(option, run.Talk, StringComparison.Ordinal);
    }

    [Fact]
    public async Task A_file_that_is_not_there_is_named()
    {
        var run = await CliRun.Async(null, "up", "--config", "/nonexistent/t.yaml");
        Assert.Equal(2, run.Code);
        Assert.Contains("/nonexistent/t.yaml", run.Talk, StringComparison.Ordinal);
    }
}
