// Hosts in network namespaces of their own, on links whose rate is known:
//
//     this process's namespace                      flabN-switch                     flabN-alpha
//     flabN 10.213.N.1  ───────────────────────  wire ─┐
//     (control node, clients)                          ├─ br0 ─ port0 ═══ tbf ═══ up0 ─ br0 10.213.N.11 ── taps of guests, 10.213.N.101 …
//                                                      └─────── port1 ═══ tbf ═══ up0 ─ br0 10.213.N.12     flabN-beta
//
// Pages between the agents and packets of the guests share a host's link, as they do in a rack. The client's wire has no limit.
using System.Globalization;
using System.Net;
using System.Text.Json;
using Fabric.Cli.Local;
using Fabric.Core;

namespace Fabric.Benchmarks.Lab;

/// <summary>A token bucket in each direction of every host's link. The burst and the longest queue are those at which iperf3 reaches 957 Mb/s of 1 Gb/s.</summary>
public sealed record LinkShape(long BitsPerSecond)
{
    public const int BurstBytes = 256 * 1024;
    public const int LatencyMilliseconds = 50;

    public static LinkShape Gigabit { get; } = new(1_000_000_000);
}

/// <summary>Bytes that crossed a host's link, Ethernet headers included, since it was made.</summary>
public sealed record LinkBytes(long Out, long In);

/// <summary>A switch and hosts on it, as namespaces of this machine. Needs root; disposing it removes everything, and so does the next laboratory after a death.</summary>
public sealed class LinkLab : IDisposable
{
    /// <summary>The bridge of every host, for guests' network cards.</summary>
    public const string Bridge = "br0";

    private const int FirstHost = 11;
    private const int FirstGuest = 101;
    private const int PrefixLength = 24;

    private readonly LabClaim _claim;
    private readonly IReadOnlyList<string> _hosts;
    private int _guests;

    private LinkLab(LabClaim claim, IReadOnlyList<string> hosts) => (_claim, _hosts) = (claim, hosts);

    /// <summary>Why there can be no laboratory on this machine, or null.</summary>
    public static string? WhyNot { get; } =
        !Environment.IsPrivilegedProcess ? "network namespaces need root"
        : !File.Exists("/dev/net/tun") ? "there is no /dev/net/tun: modprobe tun"
        : Lacking("ip") ?? Lacking("tc");

    public IPNetwork Network => new(Address(0), PrefixLength);

    /// <summary>This process's own address on the switch.</summary>
    public IPAddress OwnAddress => Address(1);

    /// <param name="hosts">Names of hosts, which are also those of their namespaces.</param>
    /// <param name="shape">Null: as fast as this machine is.</param>
    /// <exception cref="FabricException">native or unsupported: the kernel or iproute2 refuse; nothing is left then.</exception>
    public static LinkLab Build(IReadOnlyList<string> hosts, LinkShape? shape)
    {
        ArgumentNullException.ThrowIfNull(hosts);
        var lab = new LinkLab(LabClaim.Take(), hosts);
        try
        {
            lab.Make(shape);
            return lab;
        }
        catch
        {
            lab.Dispose();
            throw;
        }
    }

    /// <summary>The places of a local cluster: its control nodes beside this process, its hosts in their namespaces.</summary>
    public IReadOnlyDictionary<string, MemberPlace> Places(IEnumerable<string> controls) =>
        controls.Select(name => (name, place: new MemberPlace([], OwnAddress, Network)))
            .Concat(_hosts.Select((name, i) => (name, place: new MemberPlace(["ip", "netns", "exec", Space(name)], Address(FirstHost + i), Network))))
            .ToDictionary(static p => p.name, static p => p.place, StringComparer.Ordinal);

    /// <summary>An address for one more guest.</summary>
    public IPAddress NextGuest() => Address(FirstGuest + _guests++);

    /// <summary>The option that tells a test guest its address.</summary>
    public static string GuestOption(IPAddress address) => string.Create(CultureInfo.InvariantCulture, $"fabric.ip={address}/{PrefixLength}");

    public LinkBytes BytesOf(string host)
    {
        using var links = JsonDocument.Parse(NetworkTool.Run("ip", "-n", Space(host), "-s", "-j", "link", "show", "up0"));
        var counters = links.RootElement[0].GetProperty("stats64");
        return new LinkBytes(counters.GetProperty("tx").GetProperty("bytes").GetInt64(), counters.GetProperty("rx").GetProperty("bytes").GetInt64());
    }

    /// <summary>One more bridge in a host's namespace, on no wire.</summary>
    public void AddBridge(string host, string name) => NetworkTool.Batch(Space(host), [$"link add {name} type bridge forward_delay 0", $"link set {name} up"]);

    /// <summary>Names of the network interfaces in a host's namespace.</summary>
    public IReadOnlyList<string> InterfacesOf(string host)
    {
        using var links = JsonDocument.Parse(NetworkTool.Run("ip", "-n", Space(host), "-j", "link", "show"));
        return [.. links.RootElement.EnumerateArray().Select(static link => link.GetProperty("ifname").GetString()!)];
    }

    public void Dispose()
    {
        _claim.RemoveAll();
        _claim.Dispose();
    }

    private void Make(LinkShape? shape)
    {
        string hub = Space("switch");
        NetworkTool.Batch(null, [
            $"netns add {hub}",
            $"link add {_claim.Wire} type veth peer name wire netns {hub}",
            $"address add {OwnAddress}/{PrefixLength} dev {_claim.Wire}",
            $"link set {_claim.Wire} up",
        ]);
        NetworkTool.Batch(hub, [
            $"link add {Bridge} type bridge forward_delay 0 mcast_snooping 0",
            $"link set {Bridge} up",
            $"link set wire master {Bridge} up",
        ]);
        for (int i = 0; i < _hosts.Count; i++)
            MakeHost(i, hub, shape);
    }

    private void MakeHost(int index, string hub, LinkShape? shape)
    {
        string host = Space(_hosts[index]);
        string port = string.Create(CultureInfo.InvariantCulture, $"port{index}");
        NetworkTool.Batch(null, [$"netns add {host}"]);
        NetworkTool.Batch(hub, [$"link add {port} type veth peer name up0 netns {host}", $"link set {port} master {Bridge} up"]);

        // An address of its own: without one a bridge takes the lowest of its ports', and would change it when a guest's tap comes.
        string own = string.Create(CultureInfo.InvariantCulture, $"02:fa:b0:00:{_claim.Number:x2}:{FirstHost + index:x2}");
        NetworkTool.Batch(host, [
            "link set lo up",
            $"link add {Bridge} address {own} type bridge forward_delay 0 mcast_snooping 0",
            $"link set up0 master {Bridge} up",
            $"address add {Address(FirstHost + index)}/{PrefixLength} dev {Bridge}",
            $"link set {Bridge} up",
        ]);
        if (shape is null)
            return;
        foreach (var (space, end) in new[] { (host, "up0"), (hub, port) })
        {
            NetworkTool.Run(
                "tc", "-n", space, "qdisc", "add", "dev", end, "root", "tbf", "rate", string.Create(CultureInfo.InvariantCulture, $"{shape.BitsPerSecond}bit"),
                "burst", string.Create(CultureInfo.InvariantCulture, $"{LinkShape.BurstBytes}b"), "latency", string.Create(CultureInfo.InvariantCulture, $"{LinkShape.LatencyMilliseconds}ms"));
        }
    }

    private string Space(string name) => _claim.Prefix + name;

    private IPAddress Address(int last) => new([10, 213, (byte)_claim.Number, (byte)last]);

    private static string? Lacking(string program) =>
        (Environment.GetEnvironmentVariable("PATH") ?? "").Split(':').Any(folder => File.Exists(Path.Combine(folder, program))) ? null : $"there is no '{program}': apt install iproute2";
}
