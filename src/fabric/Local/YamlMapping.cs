using System.Diagnostics.CodeAnalysis;
using System.Globalization;
using Fabric.Core;
using YamlDotNet.Core;
using YamlDotNet.RepresentationModel;

namespace Fabric.Cli.Local;

/// <summary>
/// One mapping of a YAML file that people write, read key by key. Every refusal is invalid-argument and begins with file and line; a key that nobody asks for is refused by
/// <see cref="Allow"/>.
/// </summary>
internal sealed class YamlMapping
{
    private const long FileBytes = 64 * 1024;

    private readonly string _file;
    private readonly string _what;
    private readonly YamlMappingNode _node;

    private YamlMapping(string file, string what, YamlMappingNode node) => (_file, _what, _node) = (file, what, node);

    /// <summary>The text of a file of at most 64 KiB.</summary>
    /// <exception cref="FabricException">invalid-argument: there is no such file, or it is too large.</exception>
    public static string ReadFile(string path)
    {
        var file = new FileInfo(path);
        if (!file.Exists)
            throw new FabricException(ErrorCodes.InvalidArgument, $"There is no file '{Label.Shorten(path)}'.");
        return file.Length <= FileBytes
            ? File.ReadAllText(path)
            : throw new FabricException(ErrorCodes.InvalidArgument, $"'{Label.Shorten(path)}' has {file.Length} bytes; at most {FileBytes} are read.");
    }

    /// <param name="yaml">The text.</param>
    /// <param name="file">What errors call it.</param>
    /// <param name="example">What the file could look like.</param>
    public static YamlMapping Parse(string yaml, string file, string example)
    {
        var stream = new YamlStream();
        try
        {
            stream.Load(new StringReader(yaml));
        }
        catch (YamlException wrong)
        {
            throw new FabricException(ErrorCodes.InvalidArgument, $"{file}:{wrong.Start.Line}: {wrong.Message}", "The file is not valid YAML.", wrong);
        }

        return stream.Documents.Count == 1 && stream.Documents[0].RootNode is YamlMappingNode root
            ? new YamlMapping(file, "", root)
            : throw new FabricException(ErrorCodes.InvalidArgument, $"{file}:1: the file is not one mapping of keys.", example);
    }

    /// <summary>Refuses every key but these.</summary>
    public void Allow(params string[] keys)
    {
        foreach (var key in _node.Children.Keys)
        {
            if (!keys.Contains(KeyText(key), StringComparer.Ordinal))
                throw Wrong(key, $"unknown key '{Label.Shorten(_what + KeyText(key))}'.", $"Known here: {string.Join(", ", keys)}.");
        }
    }

    /// <summary>Keys and values, in the order of the file.</summary>
    public IEnumerable<(string Key, YamlNode Value)> Entries => _node.Children.Select(static pair => (KeyText(pair.Key), pair.Value));

    public bool Has(string key) => Find(key) is not null;

    /// <summary>Null when the key is not there.</summary>
    public string? Text(string key) => Find(key) is { } value ? TextOf(value, key) : null;

    public string RequiredText(string key) => Text(key) ?? throw Missing(key);

    /// <summary>A value of some form; null when the key is not there.</summary>
    public T? Parsed<T>(string key, string expected, Func<string, T?> parse)
        where T : struct =>
        Find(key) is not { } value ? null : parse(TextOf(value, key)) ?? throw Wrong(value, $"{_what}{key} = '{Label.Shorten(TextOf(value, key))}' is not accepted.", $"Expected {expected}.");

    public int? Whole(string key, int least, int most) => Parsed(key, $"a whole number from {least} to {most}", text =>
        int.TryParse(text, NumberStyles.None, CultureInfo.InvariantCulture, out int number) && number >= least && number <= most ? number : (int?)null);

    /// <summary>Null when the key is not there.</summary>
    public YamlMapping? Mapping(string key) => Find(key) is { } value ? AsMapping(value, key) : null;

    /// <summary>The elements of a list, at least one and at most <paramref name="most"/>; null when the key is not there.</summary>
    public IReadOnlyList<YamlNode>? List(string key, int most, string of)
    {
        if (Find(key) is not { } value)
            return null;
        if (value is not YamlSequenceNode sequence)
            throw Wrong(value, $"{_what}{key} must be a list of {of}.");
        return sequence.Children.Count >= 1 && sequence.Children.Count <= most
            ? [.. sequence.Children]
            : throw Wrong(value, $"{_what}{key} has {sequence.Children.Count} entries.", $"A list of 1 to {most} {of} is accepted.");
    }

    public YamlMapping AsMapping(YamlNode value, string key) => value is YamlMappingNode mapping
        ? new YamlMapping(_file, $"{_what}{key}.", mapping)
        : throw Wrong(value, $"{_what}{key} must be a mapping of keys.");

    public string TextOf(YamlNode value, string key) => value is YamlScalarNode { Value: { Length: > 0 } text }
        ? text
        : throw Wrong(value, $"{_what}{key} must be one plain value.");

    public YamlNode? Find(string key) => _node.Children.FirstOrDefault(pair => KeyText(pair.Key) == key).Value;

    public FabricException Missing(string key) => Wrong(_node, $"{_what}{key} is missing.");

    public FabricException Wrong(YamlNode at, string message, string? hint = null) =>
        new(ErrorCodes.InvalidArgument, $"{_file}:{at.Start.Line}: {message}", hint);

    [SuppressMessage("Performance", "CA1859:Use concrete types when possible", Justification = "A key of a mapping may be any node.")]
    private static string KeyText(YamlNode key) => (key as YamlScalarNode)?.Value ?? "";
}
