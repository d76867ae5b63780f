using Fabric.Core;
using YamlDotNet.RepresentationModel;

namespace Fabric.Cli.Local;

/// <summary>
/// Reads the file of <c>fabric up --config</c>; cluster-config/ holds commented ones. What it does not know, or would not do, is an error with its line.
/// </summary>
public static class TopologyFile
{
    private const string Example = "For example:\n  name: local\n  control_nodes: [control]\n  hosts: [{name: alpha}, {name: beta}]\n  store: sqlite";

    /// <exception cref="FabricException">invalid-argument, naming file and line.</exception>
    public static ClusterTopology Read(string path) => Parse(YamlMapping.ReadFile(path), Path.GetFileName(path));

    /// <param name="yaml">The text of a topology.</param>
    /// <param name="file">What errors call it.</param>
    public static ClusterTopology Parse(string yaml, string file)
    {
        var root = YamlMapping.Parse(yaml, file, Example);
        root.Allow("name", "control_nodes", "hosts", "store", "limits");
        var taken = new HashSet<string>(StringComparer.Ordinal) { ManagedPostgres.FolderName };
        string name = MemberName(root, root.Find("name") ?? throw root.Missing("name"), "name");
        var controls = (root.List("control_nodes", ClusterTopology.MostControls, "names") ?? throw root.Missing("control_nodes"))
            .Select(node => Unused(root, node, MemberName(root, node, "control_nodes"), taken))
            .ToList();
        var hosts = (root.List("hosts", ClusterTopology.MostHosts, "hosts") ?? throw root.Missing("hosts"))
            .Select(node => Host(root, node, taken))
            .ToList();
        return new ClusterTopology(name, controls, hosts, Store(root), Limits(root.Mapping("limits")));
    }

    private static TopologyHost Host(YamlMapping root, YamlNode node, HashSet<string> taken)
    {
        var host = root.AsMapping(node, "hosts");
        host.Allow("name", "site", "memory_limit");
        var at = host.Find("name") ?? throw host.Missing("name");
        string name = Unused(host, at, MemberName(host, at, "name"), taken);
        return new TopologyHost(
            name,
            host.Parsed("site", Rule, static text => SiteName.TryParse(text, out var site) ? site : (SiteName?)null),
            host.Parsed("memory_limit", "a size such as 512M, at least 16M", static text => ByteSize.TryParse(text, out long bytes) && bytes >= 16 * ByteSize.Mebi ? bytes : (long?)null));
    }

    private static TopologyStore Store(YamlMapping root)
    {
        var at = root.Find("store") ?? throw root.Missing("store");
        if (at is YamlScalarNode)
        {
            return root.TextOf(at, "store") == "sqlite"
                ? new SqliteStore()
                : throw root.Wrong(at, $"store = '{Label.Shorten(root.TextOf(at, "store"))}' is not accepted.", "Expected sqlite, {postgresql: managed} or {postgresql: {connection: \"Host=…\"}}.");
        }

        var store = root.AsMapping(at, "store");
        store.Allow("postgresql");
        var postgres = store.Find("postgresql") ?? throw store.Missing("postgresql");
        if (postgres is YamlScalarNode)
        {
            return store.TextOf(postgres, "postgresql") == "managed"
                ? new ManagedPostgresStore()
                : throw store.Wrong(postgres, "store.postgresql is neither 'managed' nor a mapping.", "managed starts a server of the cluster's own; {connection: \"Host=…\"} uses one that is there.");
        }

        // The value may hold a password: no error quotes it.
        var existing = store.AsMapping(postgres, "postgresql");
        existing.Allow("connection");
        return new PostgresStore(existing.RequiredText("connection"));
    }

    private static TopologyLimits Limits(YamlMapping? limits)
    {
        if (limits is null)
            return new TopologyLimits();
        limits.Allow("moves_per_source", "moves_per_destination", "moves_per_link");
        return new TopologyLimits(Moves("moves_per_source"), Moves("moves_per_destination"), Moves("moves_per_link"));

        int? Moves(string key) => limits.Whole(key, 1, Core.Limits.VmsPerHost);
    }

    private const string Rule = "1 to 63 characters of a-z, 0-9 and '-'";

    private static string MemberName(YamlMapping mapping, YamlNode at, string key) => HostName.TryParse(mapping.TextOf(at, key), out var name)
        ? name.Value
        : throw mapping.Wrong(at, $"{key} = '{Label.Shorten(mapping.TextOf(at, key))}' is not accepted.", $"Expected {Rule}.");

    private static string Unused(YamlMapping mapping, YamlNode at, string name, HashSet<string> taken) => taken.Add(name)
        ? name
        : throw mapping.Wrong(at, $"the name '{name}' is taken.", "Control nodes and hosts need different names; 'postgresql' is the server's.");
}
