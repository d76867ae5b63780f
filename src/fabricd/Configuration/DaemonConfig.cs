using System.Globalization;
using System.Net;
using Fabric.Api;
using Fabric.Core;

namespace Fabric.Daemon.Configuration;

/// <summary>The process that an ephemeral cluster belongs to: pid and start time (clock ticks after boot), so that a reused pid is not taken for it.</summary>
public sealed record OwnerProcess(int ProcessId, long? StartTime);

/// <summary>
/// Settings of the host role. A <paramref name="MemoryLimit"/> of null means what the machine has; a <paramref name="Site"/> of null, that it is in none. Not to
/// <paramref name="Rehearse"/> costs the first guest that is moved 50 to 100 ms.
/// </summary>
public sealed record HostSettings(
    IPEndPoint Listen, IPEndPoint DataListen, IReadOnlyList<Uri> ControlUrls, string MemoryDirectory, long? MemoryLimit, string Qemu, bool Rehearse, SiteName? Site, TrustedNetwork Trusted);

/// <summary>
/// Settings of the control role. Limits are moves at once. <paramref name="Database"/>: the PostgreSQL database that the nodes of a cluster share, as a connection string; null: this
/// node is alone, with an SQLite file at <paramref name="Journal"/>.
/// </summary>
public sealed record ControlSettings(
    IPEndPoint Listen, IPEndPoint ClusterListen, string Journal, string? Database, int MovesPerSource, int MovesPerDestination, int MovesPerLink, TrustedNetwork Trusted)
{
    /// <summary>Without the connection string: it may hold a password.</summary>
    public override string ToString() => $"{nameof(ControlSettings)} {Listen} {ClusterListen}";
}

/// <summary>One daemon's settings, checked. A role that the daemon does not have is null.</summary>
public sealed record DaemonConfig(
    HostName Name, string StateDirectory, LogLevel LogLevel, OwnerProcess? Owner, HostSettings? Host, ControlSettings? Control)
{
    /// <param name="values">By dotted key; <see cref="ConfigText"/>.</param>
    /// <param name="directory"><c>--dir</c>: the state directory when the configuration names none.</param>
    /// <exception cref="FabricException">invalid-argument, naming the key, the value and where it was written.</exception>
    public static DaemonConfig From(IReadOnlyDictionary<string, ConfigValue> values, string? directory)
    {
        var read = new SettingsReader(values);
        string state = Path.GetFullPath(read.Text(ConfigKeys.StateDir) ?? directory
            ?? throw new FabricException(ErrorCodes.InvalidArgument, "There is no state directory.", "Set state_dir or give --dir."));
        string[] roles = (read.Text(ConfigKeys.Roles) ?? "").Split(',', StringSplitOptions.RemoveEmptyEntries | StringSplitOptions.TrimEntries);
        if (roles.Length == 0 || roles.Any(r => r is not ("host" or "control")))
            throw read.Wrong(ConfigKeys.Roles, "one or both of: host, control");
        var name = read.Parsed(ConfigKeys.Name, "1 to 63 characters of a-z, 0-9 and '-'", static text => HostName.TryParse(text, out var parsed) ? parsed : (HostName?)null)
            ?? throw read.Wrong(ConfigKeys.Name, "the name of this node");
        return new DaemonConfig(
            name,
            state,
            read.Parsed(ConfigKeys.LogLevel, "trace, debug, information, warning or error", static text =>
                Enum.TryParse<LogLevel>(text, ignoreCase: true, out var level) && Enum.IsDefined(level) && !char.IsAsciiDigit(text[0]) ? level : (LogLevel?)null) ?? LogLevel.Information,
            read.Whole(ConfigKeys.OwnerPid, 1, int.MaxValue) is { } pid ? new OwnerProcess((int)pid, read.Whole(ConfigKeys.OwnerStartTime, 0, long.MaxValue)) : null,
            roles.Contains("host") ? ReadHost(read, name) : null,
            roles.Contains("control") ? ReadControl(read, state) : null);
    }

    private static HostSettings ReadHost(SettingsReader read, HostName name)
    {
        string directory = read.Text(ConfigKeys.HostMemoryDir) ?? $"/dev/shm/fabric-{name}";
        if (!Path.IsPathFullyQualified(directory) || directory.Contains(','))
            throw read.Wrong(ConfigKeys.HostMemoryDir, "an absolute path without commas");
        long? limit = read.Parsed(ConfigKeys.HostMemoryLimit, "a size such as 4G", static text => ByteSize.TryParse(text, out long bytes) && bytes > 0 ? bytes : (long?)null);
        var urls = (read.Text(ConfigKeys.HostControlUrls) ?? "").Split(',', StringSplitOptions.RemoveEmptyEntries | StringSplitOptions.TrimEntries)
            .Select(text => Uri.TryCreate(text, UriKind.Absolute, out var url) && url.Scheme == Uri.UriSchemeHttp
                ? url
                : throw read.Wrong(ConfigKeys.HostControlUrls, "http:// URLs of control nodes' cluster_listen"))
            .ToList();
        if (urls.Count == 0)
            throw read.Wrong(ConfigKeys.HostControlUrls, "at least one control node's URL");
        return new HostSettings(
            read.Address(ConfigKeys.HostListen), read.Address(ConfigKeys.HostDataListen), urls, directory, limit, read.Text(ConfigKeys.HostQemu) ?? "qemu-system-x86_64",
            read.Parsed(ConfigKeys.HostRehearse, "true or false", static text => text switch { "true" => true, "false" => false, _ => (bool?)null }) ?? true,
            read.Parsed(ConfigKeys.HostSite, "1 to 63 characters of a-z, 0-9 and '-'", static text => SiteName.TryParse(text, out var site) ? site : (SiteName?)null),
            read.Trusted());
    }

    private static ControlSettings ReadControl(SettingsReader read, string state)
    {
        if (read.Text(ConfigKeys.ControlDatabase) is not null && read.Text(ConfigKeys.ControlJournal) is not null)
            throw read.Wrong(ConfigKeys.ControlJournal, $"either {ConfigKeys.ControlJournal} (one node, SQLite) or {ConfigKeys.ControlDatabase} (several nodes, PostgreSQL)");
        return new ControlSettings(
            read.Address(ConfigKeys.ControlListen),
            read.Address(ConfigKeys.ControlClusterListen),
            Path.GetFullPath(read.Text(ConfigKeys.ControlJournal) ?? "journal.db", state),
            read.Text(ConfigKeys.ControlDatabase),
            (int)(read.Whole(ConfigKeys.MovesPerSource, 1, Limits.VmsPerHost) ?? 2),
            (int)(read.Whole(ConfigKeys.MovesPerDestination, 1, Limits.VmsPerHost) ?? 2),
            (int)(read.Whole(ConfigKeys.MovesPerLink, 1, Limits.VmsPerHost) ?? 2),
            read.Trusted());
    }

    /// <summary>Typed access; every refusal says key, value, place and what would be accepted.</summary>
    private sealed class SettingsReader(IReadOnlyDictionary<string, ConfigValue> values)
    {
        public string? Text(string key) => values.TryGetValue(key, out var value) ? value.Text : null;

        public T? Parsed<T>(string key, string expected, Func<string, T?> parse)
            where T : struct =>
            Text(key) is not { } text ? null : parse(text) ?? throw Wrong(key, expected);

        public long? Whole(string key, long least, long most) => Parsed(key, $"a whole number from {least} to {most}", text =>
            long.TryParse(text, NumberStyles.None, CultureInfo.InvariantCulture, out long number) && number >= least && number <= most ? number : (long?)null);

        /// <summary>An address and port; port 0 takes a free one, which a restart takes again. Default 127.0.0.1:0.</summary>
        public IPEndPoint Address(string key)
        {
            if (Text(key) is not { } text)
                return new IPEndPoint(IPAddress.Loopback, 0);
            return text.Contains(':') && IPEndPoint.TryParse(text, out var endpoint) && Trusted().Holds(endpoint.Address)
                ? endpoint
                : throw Wrong(key, $"an address that is {Trusted()} and a port, such as 127.0.0.1:7101 (there are no certificates yet)");
        }

        /// <summary>A wire of one's own is never the whole Internet: 0.0.0.0/0 is refused.</summary>
        public TrustedNetwork Trusted() => new(Parsed(ConfigKeys.TrustedNetwork, "a network such as 10.7.0.0/24, of 8 bits at least", static text =>
            IPNetwork.TryParse(text, out var network) && network.PrefixLength >= 8 ? network : (IPNetwork?)null));

        public FabricException Wrong(string key, string expected) => values.TryGetValue(key, out var value)
            ? new FabricException(ErrorCodes.InvalidArgument, $"{value.Origin}: {key} = '{Label.Shorten(value.Text)}' is not accepted.", $"Expected {expected}.")
            : new FabricException(ErrorCodes.InvalidArgument, $"The configuration has no {key}.", $"Expected {expected}.");
    }
}
