using Fabric.Core;
using YamlDotNet.Core;
using YamlDotNet.RepresentationModel;

namespace Fabric.Daemon.Configuration;

/// <summary>A value as written, and where: <c>alpha.yaml:12</c>, <c>FABRIC_HOST_LISTEN</c> or <c>--set</c>. Errors name the place.</summary>
public sealed record ConfigValue(string Text, string Origin);

/// <summary>
/// Gathers settings by dotted key (<c>host.listen</c>): the YAML file first, then <c>FABRIC_*</c> of the environment, then <c>--set key=value</c>;
/// the later wins. A key that is not in <see cref="ConfigKeys"/> is an error with its line.
/// </summary>
public static class ConfigText
{
    private const long FileBytes = 1024 * 1024;

    /// <exception cref="FabricException">invalid-argument, naming file and line; not-found when there is no such file.</exception>
    public static Dictionary<string, ConfigValue> ReadFile(string path)
    {
        var file = new FileInfo(path);
        if (!file.Exists)
            throw new FabricException(ErrorCodes.NotFound, $"There is no configuration file '{path}'.", "Give one with --config; cluster-config/fabricd.yaml is an example.");
        if (file.Length > FileBytes)
            throw new FabricException(ErrorCodes.InvalidArgument, $"'{path}' has {file.Length} bytes; a configuration has at most {FileBytes}.");
        return Read(File.ReadAllText(path), file.Name);
    }

    /// <param name="yaml">The text of a configuration.</param>
    /// <param name="name">What errors call it.</param>
    public static Dictionary<string, ConfigValue> Read(string yaml, string name)
    {
        var values = new Dictionary<string, ConfigValue>(StringComparer.Ordinal);
        var stream = new YamlStream();
        try
        {
            stream.Load(new StringReader(yaml));
        }
        catch (YamlException wrong)
        {
            throw new FabricException(ErrorCodes.InvalidArgument, $"{name}:{wrong.Start.Line}: {wrong.Message}", "The file is not valid YAML.", wrong);
        }

        if (stream.Documents.Count > 1)
            throw new FabricException(ErrorCodes.InvalidArgument, $"{name} has {stream.Documents.Count} documents; a configuration has one.");
        if (stream.Documents.Count == 1)
            Flatten(stream.Documents[0].RootNode, "", name, values);
        return values;
    }

    /// <summary>Environment variables are matched against the known keys; others (FABRIC_DIR, FABRIC_REPO, …) are not settings of a daemon.</summary>
    public static void ReadEnvironment(Dictionary<string, ConfigValue> values, Func<string, string?> variable)
    {
        foreach (string key in ConfigKeys.All)
        {
            string name = "FABRIC_" + key.Replace('.', '_').ToUpperInvariant();
            if (variable(name) is { } text)
                values[key] = new ConfigValue(text, name);
        }
    }

    public static void ReadAssignments(Dictionary<string, ConfigValue> values, IEnumerable<string> assignments)
    {
        foreach (string assignment in assignments)
        {
            int equals = assignment.IndexOf('=', StringComparison.Ordinal);
            if (equals < 1)
                throw new FabricException(ErrorCodes.InvalidArgument, $"--set '{Label.Shorten(assignment)}' is not key=value.", "For example --set host.listen=127.0.0.1:0");
            string key = assignment[..equals];
            if (!ConfigKeys.All.Contains(key))
                throw Unknown(key, "--set");
            values[key] = new ConfigValue(assignment[(equals + 1)..], "--set");
        }
    }

    private static void Flatten(YamlNode node, string prefix, string name, Dictionary<string, ConfigValue> values)
    {
        string origin = $"{name}:{node.Start.Line}";
        switch (node)
        {
            case YamlMappingNode mapping when prefix.Length == 0 || ConfigKeys.IsSection(prefix):
                foreach (var (key, value) in mapping.Children)
                {
                    string text = (key as YamlScalarNode)?.Value ?? "";
                    string full = prefix.Length == 0 ? text : prefix + "." + text;
                    if (!ConfigKeys.All.Contains(full) && !ConfigKeys.IsSection(full))
                        throw Unknown(full, $"{name}:{key.Start.Line}");
                    Flatten(value, full, name, values);
                }

                break;
            case YamlScalarNode scalar when ConfigKeys.All.Contains(prefix):
                if (!string.IsNullOrEmpty(scalar.Value) && !IsNull(scalar))
                    values[prefix] = new ConfigValue(scalar.Value, origin);
                break;
            case YamlSequenceNode sequence when ConfigKeys.IsList(prefix) && sequence.Children.All(c => c is YamlScalarNode):
                values[prefix] = new ConfigValue(string.Join(',', sequence.Children.Select(c => ((YamlScalarNode)c).Value)), origin);
                break;
            case YamlScalarNode { Value: null or "" }:
                break;
            default:
                string where = prefix.Length == 0 ? "the configuration" : $"'{prefix}'";
                string expected = prefix.Length == 0 || ConfigKeys.IsSection(prefix) ? "a mapping of keys" : ConfigKeys.IsList(prefix) ? "a list of plain values" : "one plain value";
                throw new FabricException(ErrorCodes.InvalidArgument, $"{origin}: {where} must be {expected}.");
        }
    }

    private static bool IsNull(YamlScalarNode scalar) => scalar.Style == ScalarStyle.Plain && scalar.Value is "null" or "~";

    private static FabricException Unknown(string key, string origin)
    {
        string? near = ConfigKeys.Nearest(key);
        return new FabricException(
            ErrorCodes.InvalidArgument,
            $"{origin}: unknown key '{Label.Shorten(key)}'.",
            near is null ? "docs/OPERATIONS.md lists the keys." : $"Did you mean '{near}'? docs/OPERATIONS.md lists the keys.");
    }
}
