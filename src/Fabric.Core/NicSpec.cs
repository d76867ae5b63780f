using System.Globalization;
using System.Security.Cryptography;
using System.Text;

namespace Fabric.Core;

/// <summary>
/// A network card of a VM, plugged into the Linux bridge of this name at whichever host the VM is. Every host that may get the VM has a bridge of that name, and all of them
/// reach one Ethernet.
/// </summary>
/// <param name="Bridge">A network interface's name: 1 to 15 characters of a-z, A-Z, 0-9, '.', '_' and '-'.</param>
/// <param name="Mac">Six hexadecimal bytes with colons, of one card only (not multicast); null: <see cref="MacOf"/> makes it of the VM's name.</param>
public sealed record NicSpec(string Bridge, string? Mac = null)
{
    /// <summary>What the kernel has room for (IFNAMSIZ less the end).</summary>
    public const int BridgeCharacters = 15;

    /// <summary>
    /// The card's address, the same at every host and after every move: the one that was given, else a locally administered one that follows from the VM's name and
    /// the card's place. Two VMs of one name on one Ethernet (of two clusters) need addresses that are given.
    /// </summary>
    public string MacOf(VmName vm, int index)
    {
        if (Mac is not null)
            return Mac.ToLowerInvariant();
        byte[] digest = SHA256.HashData(Encoding.UTF8.GetBytes(string.Create(CultureInfo.InvariantCulture, $"fabric nic {index} of {vm}")));
        return string.Create(CultureInfo.InvariantCulture, $"02:{digest[0]:x2}:{digest[1]:x2}:{digest[2]:x2}:{digest[3]:x2}:{digest[4]:x2}");
    }

    /// <summary>What is wrong with it and how it is right, or null.</summary>
    public (string What, string Hint)? Fault()
    {
        if (Bridge.Length is 0 or > BridgeCharacters || Bridge is "." or ".." || !Bridge.All(static c => char.IsAsciiLetterOrDigit(c) || c is '.' or '_' or '-'))
            return ($"a network card on bridge '{Label.Shorten(Bridge)}'", $"Name a bridge of the hosts: 1 to {BridgeCharacters} characters of a-z, A-Z, 0-9, '.', '_' and '-'.");
        if (Mac is not null && !IsUnicast(Mac))
            return ($"a network card with address '{Label.Shorten(Mac)}'", "Write six hexadecimal bytes, the first one even, such as 02:00:00:00:00:01.");
        return null;
    }

    private static bool IsUnicast(string mac)
    {
        string[] bytes = mac.Split(':');
        return bytes.Length == 6
            && bytes.All(static b => b.Length == 2 && b.All(char.IsAsciiHexDigit))
            && (byte.Parse(bytes[0], NumberStyles.AllowHexSpecifier, CultureInfo.InvariantCulture) & 1) == 0
            && bytes.Any(static b => b != "00");
    }
}
