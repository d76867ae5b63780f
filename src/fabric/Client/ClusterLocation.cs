using Fabric.Cli.Local;
using Fabric.Core;
using Fabric.Wire.Api;

namespace Fabric.Cli.Client;

/// <summary>Where the cluster's control nodes are: <c>--server</c>, then FABRIC_SERVER (or, as it was called first, FABRIC_API), then the running local cluster of <c>--dir</c>, FABRIC_DIR or the default directory.</summary>
public static class ClusterLocation
{
    public static string Directory(string? given, Func<string, string?> environment)
    {
        ArgumentNullException.ThrowIfNull(environment);
        if (!string.IsNullOrEmpty(given))
            return Path.GetFullPath(given);
        if (environment("FABRIC_DIR") is { Length: > 0 } set)
            return Path.GetFullPath(set);
        string state = environment("XDG_STATE_HOME") is { Length: > 0 } xdg && Path.IsPathFullyQualified(xdg)
            ? xdg
            : Path.Combine(environment("HOME") is { Length: > 0 } home ? home : "/tmp", ".local", "state");
        return Path.Combine(state, "fabric", "local");
    }

    /// <summary>The control nodes, the one to ask first in front; 1 to <see cref="ControlClient.MostNodes"/>.</summary>
    /// <param name="servers">URLs, each entry one or several with commas between.</param>
    /// <exception cref="FabricException">invalid-argument: not a URL, or too many; not-found: no local cluster, and how to start one.</exception>
    public static IReadOnlyList<Uri> Servers(IReadOnlyList<string>? servers, string? directory, Func<string, string?> environment)
    {
        ArgumentNullException.ThrowIfNull(environment);
        var given = servers is { Count: > 0 } ? servers : string.IsNullOrEmpty(directory) ? [environment("FABRIC_SERVER") ?? environment("FABRIC_API") ?? ""] : [];
        var urls = given.SelectMany(static text => text.Split(',', StringSplitOptions.RemoveEmptyEntries | StringSplitOptions.TrimEntries)).Select(Url).Distinct().ToList();
        if (urls.Count > ControlClient.MostNodes)
            throw new FabricException(ErrorCodes.InvalidArgument, $"{urls.Count} control nodes are not accepted.", $"Name 1 to {ControlClient.MostNodes}.");
        if (urls.Count > 0)
            return urls;

        string path = Directory(directory, environment);
        var record = ClusterFile.Read(path)
            ?? throw new FabricException(ErrorCodes.NotFound, $"No local cluster is running in '{path}'.", "Start one with 'fabric up --detach', or name one with --dir or --server.");
        return record.ApiUrls is { Count: > 0 } all
            ? all
            : record.ApiUrl is { } one
                ? [one]
                : throw new FabricException(ErrorCodes.Unreachable, $"The local cluster in '{path}' is still starting, or its start failed.", $"Its logs are in {path}; 'fabric down' clears it away.");
    }

    private static Uri Url(string text) => Uri.TryCreate(text.TrimEnd('/') + "/", UriKind.Absolute, out var url) && (url.Scheme == Uri.UriSchemeHttp || url.Scheme == Uri.UriSchemeHttps)
        ? url
        : throw new FabricException(ErrorCodes.InvalidArgument, $"'{Label.Shorten(text)}' is not a URL of a control node.", "For example --server http://127.0.0.1:7100");
}
