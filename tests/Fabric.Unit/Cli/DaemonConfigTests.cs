using Fabric.Core;
using Fabric.Daemon;
using Fabric.Daemon.Configuration;
using Fabric.Daemon.State;
using Xunit;

namespace Fabric.Unit.Cli;

public sealed class DaemonConfigTests
{
    private const string Host = """
        name: alpha
        roles: [host]
        state_dir: /tmp/x
        host:
          listen: 127.0.0.1:7101
          control_urls: ["http://127.0.0.1:7100"]
          memory_limit: 4G
          site: east
        """;

    [Fact]
    public void A_hosts_file_is_read()
    {
        var config = DaemonConfig.From(ConfigText.Read(Host, "a.yaml"), null);
        Assert.Equal("alpha", config.Name.Value);
        Assert.Null(config.Control);
        Assert.Equal((7101, 0, 4 * ByteSize.Gibi, "east"), (config.Host!.Listen.Port, config.Host.DataListen.Port, config.Host.MemoryLimit, config.Host.Site?.Value));
    }

    [Fact]
    public void A_control_nodes_journal_lies_in_its_state_directory()
    {
        var config = DaemonConfig.From(ConfigText.Read("name: c\nroles: control\ncontrol:\n  limits:\n    moves_per_source: 5\n", "c.yaml"), "/tmp/c");
        Assert.Equal(("/tmp/c/journal.db", 5, 2), (config.Control!.Journal, config.Control.MovesPerSource, config.Control.MovesPerDestination));
    }

    [Theory]
    [InlineData("name: a\ncolour: red\n", "a.yaml:2: unknown key 'colour'")]
    [InlineData("name: a\nhost:\n  lisen: 127.0.0.1:0\n", "a.yaml:3: unknown key 'host.lisen'")]
    [InlineData("name: a\nhost: 5\n", "a.yaml:2: 'host' must be a mapping")]
    [InlineData("name: [a]\n", "a.yaml:1: 'name' must be one plain value")]
    [InlineData("name: a\nname: b\n", "a.yaml:2")]
    [InlineData("- name\n", "a.yaml:1: the configuration must be a mapping")]
    [InlineData("name: 'a\n", "a.yaml:")]
    public void What_is_wrong_in_a_file_is_named_with_its_line(string yaml, string expected)
    {
        var error = Assert.Throws<FabricException>(() => ConfigText.Read(yaml, "a.yaml"));
        Assert.Equal(ErrorCodes.InvalidArgument, error.Error.Code);
        Assert.StartsWith(expected, error.Error.Message, StringComparison.Ordinal);
    }

    [Fact]
    public void A_misspelt_key_is_answered_with_the_likely_one()
    {
        var error = Assert.Throws<FabricException>(() => ConfigText.Read("host:\n  lisen: x\n", "a.yaml"));
        Assert.Contains("'host.listen'", error.Error.Hint, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("host.listen=0.0.0.0:80", "host.listen = '0.0.0.0:80'")]
    [InlineData("trusted_network=0.0.0.0/0", "trusted_network = '0.0.0.0/0'")]
    [InlineData("host.listen=127.0.0.1", "host.listen = '127.0.0.1'")]
    [InlineData("host.memory_limit=plenty", "host.memory_limit")]
    [InlineData("host.site=East", "host.site = 'East'")]
    [InlineData("host.rehearse=no", "host.rehearse = 'no'")]
    [InlineData("host.control_urls=ftp://x", "host.control_urls")]
    [InlineData("roles=guest", "roles")]
    [InlineData("name=Alpha", "name")]
    [InlineData("owner_pid=0", "owner_pid")]
    [InlineData("log_level=7", "log_level")]
    public void A_value_that_is_not_accepted_is_named_with_its_origin(string assignment, string expected)
    {
        var values = ConfigText.Read(Host, "a.yaml");
        ConfigText.ReadAssignments(values, [assignment]);
        var error = Assert.Throws<FabricException>(() => DaemonConfig.From(values, null));
        Assert.StartsWith("--set: " + expected, error.Error.Message, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("", true)]
    [InlineData("  rehearse: true\n", true)]
    [InlineData("  rehearse: false\n", false)]
    public void A_host_rehearses_unless_it_is_told_not_to(string line, bool rehearses) =>
        Assert.Equal(rehearses, DaemonConfig.From(ConfigText.Read(Host + "\n" + line, "a.yaml"), null).Host!.Rehearse);

    [Theory]
    [InlineData("10.7.0.9:7101", true)]
    [InlineData("127.0.0.1:7101", true)]
    [InlineData("10.7.1.9:7101", false)]
    [InlineData("0.0.0.0:7101", false)]
    public void Addresses_of_a_trusted_network_are_accepted_and_no_others(string address, bool accepted)
    {
        var values = ConfigText.Read(Host, "a.yaml");
        ConfigText.ReadAssignments(values, ["trusted_network=10.7.0.0/24", "host.listen=" + address]);
        if (accepted)
            Assert.Equal(address, DaemonConfig.From(values, null).Host!.Listen.ToString());
        else
            Assert.Contains("10.7.0.0/24", Assert.Throws<FabricException>(() => DaemonConfig.From(values, null)).Error.Hint, StringComparison.Ordinal);
    }

    [Fact]
    public void The_environment_wins_over_the_file_and_set_wins_over_both()
    {
        var values = ConfigText.Read(Host, "a.yaml");
        ConfigText.ReadEnvironment(values, name => name switch { "FABRIC_NAME" => "beta", "FABRIC_HOST_LISTEN" => "127.0.0.1:1", "FABRIC_ROOT" => "/repo", _ => null });
        ConfigText.ReadAssignments(values, ["host.listen=127.0.0.1:2"]);
        var config = DaemonConfig.From(values, null);
        Assert.Equal(("beta", 2), (config.Name.Value, config.Host!.Listen.Port));
    }

    [Fact]
    public void Every_key_is_explained_in_the_operators_guide()
    {
        string guide = File.ReadAllText(Path.Combine(Root(), "docs", "OPERATIONS.md"));
        Assert.All(ConfigKeys.All, key => Assert.Contains($"`{key}`", guide, StringComparison.Ordinal));
    }

    [Fact]
    public void The_example_configuration_is_valid()
    {
        var values = ConfigText.ReadFile(Path.Combine(Root(), "cluster-config", "fabricd.yaml"));
        Assert.NotNull(DaemonConfig.From(values, "/tmp/x").Control);
    }

    [Fact]
    public void Two_daemons_do_not_share_a_directory()
    {
        string directory = Directory.CreateTempSubdirectory("fabric-lock-").FullName;
        try
        {
            using (StateDirectory.Open(directory))
            {
                var error = Assert.Throws<FabricException>(() => StateDirectory.Open(directory));
                Assert.Equal(ErrorCodes.Conflict, error.Error.Code);
            }

            StateDirectory.Open(directory).Dispose();
        }
        finally
        {
            Directory.Delete(directory, recursive: true);
        }
    }

    [Fact]
    public void Ports_are_kept_across_restarts_and_a_torn_file_costs_only_them()
    {
        string directory = Directory.CreateTempSubdirectory("fabric-ports-").FullName;
        try
        {
            using (var first = StateDirectory.Open(directory))
                first.RememberPorts(new Dictionary<string, int>(StringComparer.Ordinal) { ["host.listen"] = 7101 });
            using (var second = StateDirectory.Open(directory))
                Assert.Equal((7101, 9), (second.StickyPort("host.listen", 0), second.StickyPort("host.listen", 9)));
            File.WriteAllText(Path.Combine(directory, "ports.json"), "{\"host.li");
            using var third = StateDirectory.Open(directory);
            Assert.Equal(0, third.StickyPort("host.listen", 0));
        }
        finally
        {
            Directory.Delete(directory, recursive: true);
        }
    }

    [Theory]
    [InlineData("--config")]
    [InlineData("--colour", "red")]
    [InlineData("serve")]
    public void Wrong_words_on_the_daemons_command_line_are_named(params string[] words) =>
        Assert.Equal(ErrorCodes.InvalidArgument, Assert.Throws<FabricException>(() => DaemonArguments.Parse(words)).Error.Code);

    internal static string Root()
    {
        var directory = new DirectoryInfo(AppContext.BaseDirectory);
        while (!File.Exists(Path.Combine(directory!.FullName, "Fabric.sln")))
            directory = directory.Parent;
        return directory.FullName;
    }
}
