using System.Globalization;
using Fabric.Core;
using Fabric.Native;

namespace Fabric.Machines.Qemu;

/// <summary>
/// The host's side of network cards. Each card has a tap that QEMU made (<see cref="QemuCommandLine"/>) and that is plugged into the card's bridge here, before the guest runs. The tap
/// ends with the QEMU process: there is nothing to remove, to sweep or to adopt.
/// </summary>
public sealed partial class QemuMachineFactory
{
    private const byte TapAddressBegin = 0xfe;

    /// <summary>What this host lacks for the VM's cards, or null. For an incoming machine this is said while the VM still runs at its source.</summary>
    private static FabricError? CheckNetwork(VmSpec spec)
    {
        if (spec.Nics.Count == 0)
            return null;
        if (Preflight.CheckNetwork() is { Ok: false } lacking)
            return new FabricError(ErrorCodes.Unsupported, $"VM '{spec.Name}' has a network card, which this host cannot give it: {lacking.Detail}.", lacking.Remedy);
        return spec.Nics.FirstOrDefault(static nic => !NetworkLink.Exists(nic.Bridge)) is { } absent
            ? new FabricError(
                ErrorCodes.NotFound, $"VM '{spec.Name}' has a network card on bridge '{absent.Bridge}', which is not on this host.",
                $"Every host that may get the VM needs it: ip link add {absent.Bridge} type bridge, with the host's own interface as a port.")
            : null;
    }

    private static void PlugNics(VmSpec spec, MachineFiles files)
    {
        for (int i = 0; i < spec.Nics.Count; i++)
        {
            string bridge = spec.Nics[i].Bridge;
            try
            {
                NetworkLink.Plug(files.Tap(i), bridge, TapAddress(spec.Nics[i].MacOf(spec.Name, i)));
            }
            catch (FabricException error)
            {
                throw new FabricException(ErrorCodes.Unsupported, $"VM '{spec.Name}': {error.Error.Message}", $"'{bridge}' must be a Linux bridge: ip link show {bridge} type bridge", error);
            }
        }
    }

    /// <summary>The card's own address with another first byte: local, and above every other port's.</summary>
    private static byte[] TapAddress(string mac) => [TapAddressBegin, .. NicAddress.Parse(mac).AsSpan(1)];
}

internal static class NicAddress
{
    /// <summary>The six bytes of an address that was checked before.</summary>
    internal static byte[] Parse(string mac) => [.. mac.Split(':').Select(static b => byte.Parse(b, NumberStyles.AllowHexSpecifier, CultureInfo.InvariantCulture))];
}
