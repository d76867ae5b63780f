using Fabric.Cli.Local;
using Fabric.Core;

namespace Fabric.Cli.Client;

/// <summary>Where the cluster is: <c>--api</c>, then FABRIC_API, then the running local cluster of <c>--dir</c>, FABRIC_DIR or the default directory.</summary>
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

    /// <exception cref="FabricException">invalid-argument: not a URL; not-found: no local cluster, and how to start one.</exception>
    public static Uri Api(string? api, string? directory, Func<string, string?> environment)
    {
        ArgumentNullException.ThrowIfNull(environment);
        string? text = !string.IsNullOrEmpty(api) ? api : string.IsNullOrEmpty(directory) ? environment("FABRIC_API") : null;
        if (!string.IsNullOrEmpty(text))
        {
            return Uri.TryCreate(text.TrimEnd('/') + "/", UriKind.Absolute, out var url) && (url.Scheme == Uri.UriSchemeHttp || url.Scheme == Uri.UriSchemeHttps)
                ? url
                : throw new FabricException(ErrorCodes.InvalidArgument, $"'{Label.Shorten(text)}' is not a URL of an API.", "For example --api http://127.0.0.1:7100");
        }

        string path = Directory(directory, environment);
        var record = ClusterFile.Read(path)
            ?? throw new FabricException(ErrorCodes.NotFound, $"No local cluster is running in '{path}'.", "Start one with 'fabric up --detach', or name one with --dir or --api.");
        return record.ApiUrl
            ?? throw new FabricException(ErrorCodes.Unreachable, $"The local cluster in '{path}' is still starting, or its start failed.", $"Its logs are in {path}; 'fabric down' clears it away.");
    }
}
