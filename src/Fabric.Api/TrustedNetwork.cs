using System.Net;

namespace Fabric.Api;

/// <summary>
/// The addresses that a daemon may serve on and be told to call: loopback, and <paramref name="Wire"/> where one is given. Without certificates nothing tells a friend from a
/// stranger, so such a wire must belong to the cluster alone: whoever reaches it can end every guest.
/// </summary>
/// <param name="Wire">Null: loopback only.</param>
public sealed record TrustedNetwork(IPNetwork? Wire)
{
    public static TrustedNetwork LoopbackOnly { get; } = new((IPNetwork?)null);

    public bool Holds(IPAddress address) => IPAddress.IsLoopback(address) || Wire?.Contains(address) == true;

    /// <summary>The same for a name in a URL or a Host header; of names only <c>localhost</c> is known, since any other could mean another address tomorrow.</summary>
    public bool Holds(string host)
    {
        string bare = host.Trim('[', ']');
        return bare.Equals("localhost", StringComparison.OrdinalIgnoreCase) || (IPAddress.TryParse(bare, out var address) && Holds(address));
    }

    /// <summary>For a refusal: what would be accepted.</summary>
    public override string ToString() => Wire is { } wire ? $"loopback or {wire}" : "loopback";
}
