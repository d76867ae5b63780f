using System.Globalization;
using System.Text;
using System.Text.Json;
using Fabric.Core;
using Fabric.Native;

namespace Fabric.Cli.Local;

/// <summary>What a serving daemon wrote into ready.json, as far as a cluster needs it.</summary>
internal sealed record ReadyFile(int Pid, Uri? ApiUrl, Uri? ClusterUrl, Uri? AgentUrl, Uri? Data)
{
    /// <summary>Null while there is none.</summary>
    public static ReadyFile? Read(string stateDirectory)
    {
        try
        {
            using var json = JsonDocument.Parse(File.ReadAllBytes(Path.Combine(stateDirectory, "ready.json")));
            var root = json.RootElement;
            return new ReadyFile(root.GetProperty("pid").GetInt32(), Url(root, "api_url"), Url(root, "cluster_url"), Url(root, "agent_url"), Endpoint(root));
        }
        catch (Exception none) when (none is IOException or UnauthorizedAccessException)
        {
            return null;
        }
        catch (Exception wrong) when (wrong is JsonException or KeyNotFoundException or InvalidOperationException or FormatException)
        {
            throw new FabricException(ErrorCodes.Malformed, $"ready.json in '{stateDirectory}' cannot be read: {wrong.Message}", "fabricd and fabric must be of one version.", wrong);
        }
    }

    private static Uri? Endpoint(JsonElement root) => root.TryGetProperty("data", out var data) && data.ValueKind == JsonValueKind.Object
        ? new UriBuilder("tcp", data.GetProperty("address").GetString(), data.GetProperty("port").GetInt32()).Uri
        : null;

    private static Uri? Url(JsonElement root, string name) =>
        root.TryGetProperty(name, out var value) && value.GetString() is { } text ? new Uri(text) : null;
}

/// <summary>Directories and configuration of one member.</summary>
internal static class MemberConfig
{
    public const string ControlName = "control";

    public static string Root(string cluster, string member) => Path.Combine(cluster, member);

    public static string State(string cluster, string member) => Path.Combine(cluster, member, "state");

    public static string Log(string cluster, string member) => Path.Combine(cluster, member, "fabricd.log");

    public static string File(string cluster, string member) => Path.Combine(cluster, member, "config.yaml");

    /// <summary>For its owner alone: a member's files hold what others must not read.</summary>
    public static void MakeDirectory(string path) => Directory.CreateDirectory(path, UnixFileMode.UserRead | UnixFileMode.UserWrite | UnixFileMode.UserExecute);

    /// <summary>A new file that only its owner reads: a connection string may hold a password.</summary>
    public static void WriteSecret(string path, string text)
    {
        using var file = new FileStream(path, new FileStreamOptions
        {
            Mode = FileMode.CreateNew,
            Access = FileAccess.Write,
            UnixCreateMode = UnixFileMode.UserRead | UnixFileMode.UserWrite,
        });
        file.Write(Encoding.UTF8.GetBytes(text));
    }

    /// <summary>The names of so many control nodes.</summary>
    public static IEnumerable<string> ControlNames(int count) => Enumerable.Range(1, count).Select(static i => i == 1 ? ControlName : string.Create(CultureInfo.InvariantCulture, $"{ControlName}-{i}"));

    /// <summary>The journal that several control nodes of one machine share.</summary>
    public static string SharedJournal(string cluster) => Path.Combine(cluster, "journal.db");

    /// <param name="cluster">The cluster's directory.</param>
    /// <param name="name">Of the node.</param>
    /// <param name="place">Where it runs.</param>
    /// <param name="store">The line that names the store; null: an SQLite file of the node's own.</param>
    /// <param name="limits">Moves at once.</param>
    /// <param name="owner">The process that the cluster ends with.</param>
    public static string Control(string cluster, string name, MemberPlace place, string? store, TopologyLimits limits, ProcessIdentity? owner)
    {
        var text = Head(cluster, name, place, "control", owner);
        text.AppendLine("control:");
        text.AppendLine(CultureInfo.InvariantCulture, $"  listen: {place.Address}:0");
        text.AppendLine(CultureInfo.InvariantCulture, $"  cluster_listen: {place.Address}:0");
        if (store is not null)
            text.AppendLine("  " + store);
        if (limits == new TopologyLimits())
            return text.ToString();
        text.AppendLine("  limits:");
        foreach (var (key, most) in new[] { ("moves_per_source", limits.MovesPerSource), ("moves_per_destination", limits.MovesPerDestination), ("moves_per_link", limits.MovesPerLink) })
        {
            if (most is not null)
                text.AppendLine(CultureInfo.InvariantCulture, $"    {key}: {most}");
        }

        return text.ToString();
    }

    public static string Host(string cluster, TopologyHost host, MemberPlace place, IEnumerable<Uri> controls, string memoryDirectory, ProcessIdentity? owner)
    {
        var text = Head(cluster, host.Name, place, "host", owner);
        text.AppendLine("host:");
        text.AppendLine(CultureInfo.InvariantCulture, $"  listen: {place.Address}:0");
        text.AppendLine(CultureInfo.InvariantCulture, $"  data_listen: {place.Address}:0");
        text.AppendLine(CultureInfo.InvariantCulture, $"  control_urls: [{string.Join(", ", controls.Select(static c => Quoted(c.ToString())))}]");
        text.AppendLine(CultureInfo.InvariantCulture, $"  memory_dir: {Quoted(memoryDirectory)}");
        if (host.MemoryLimit is { } limit)
            text.AppendLine(CultureInfo.InvariantCulture, $"  memory_limit: {limit}");
        if (host.Site is { } site)
            text.AppendLine(CultureInfo.InvariantCulture, $"  site: {site}");
        return text.ToString();
    }

    private static StringBuilder Head(string cluster, string name, MemberPlace place, string role, ProcessIdentity? owner)
    {
        var text = new StringBuilder();
        text.AppendLine("# Written by 'fabric up'; 'fabric down' removes it.");
        text.AppendLine(CultureInfo.InvariantCulture, $"name: {name}");
        text.AppendLine(CultureInfo.InvariantCulture, $"roles: [{role}]");
        text.AppendLine(CultureInfo.InvariantCulture, $"state_dir: {Quoted(State(cluster, name))}");
        if (place.Wire is { } wire)
            text.AppendLine(CultureInfo.InvariantCulture, $"trusted_network: {wire}");
        if (owner is not null)
        {
            text.AppendLine(CultureInfo.InvariantCulture, $"owner_pid: {owner.ProcessId}");
            text.AppendLine(CultureInfo.InvariantCulture, $"owner_start_time: {owner.StartTicks}");
        }

        return text;
    }

    public static string? Store(string cluster, int controls, string? database) =>
        database is not null ? $"database: {Quoted(database)}" : controls > 1 ? $"journal: {Quoted(SharedJournal(cluster))}" : null;

    // A YAML double-quoted scalar: JSON's escapes are a subset of YAML's.
    private static string Quoted(string text) => "\"" + JsonEncodedText.Encode(text).ToString() + "\"";
}
