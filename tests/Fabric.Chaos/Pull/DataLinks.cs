using System.Diagnostics;
using System.Globalization;
using System.Net;
using System.Net.Sockets;
using Fabric.Core;

namespace Fabric.Chaos.Pull;

/// <summary>Breaks TCP connections from outside, as a switch that forgets them would: both ends get an error at once and nothing that is under way arrives.</summary>
internal static class DataLinks
{
    private static readonly TimeSpan Deadline = TimeSpan.FromSeconds(10);

    /// <summary>Why no connection can be broken here, or null.</summary>
    internal static async Task<string?> WhyNotAsync()
    {
        using var listener = new TcpListener(IPAddress.Loopback, 0);
        listener.Start();
        using var near = new TcpClient();
        await near.ConnectAsync((IPEndPoint)listener.LocalEndpoint);
        using var far = await listener.AcceptTcpClientAsync();
        try
        {
            await CutAsync(((IPEndPoint)listener.LocalEndpoint).Port);
            return near.Client.Poll(TimeSpan.Zero, SelectMode.SelectRead) ? null : "'ss --kill' breaks no connection here: that needs root and a kernel with CONFIG_INET_DIAG_DESTROY.";
        }
        catch (FabricException error)
        {
            return error.Error.Message;
        }
    }

    /// <summary>Breaks every established connection to or from a port of this machine; returns how many ends were hit.</summary>
    internal static async Task<int> CutAsync(int port)
    {
        string at = string.Create(CultureInfo.InvariantCulture, $":{port}");
        var start = new ProcessStartInfo("ss", ["-H", "-n", "-t", "-K", "state", "established", "( sport = " + at + " or dport = " + at + " )"]) { RedirectStandardOutput = true, RedirectStandardError = true, UseShellExecute = false };
        try
        {
            using var process = Process.Start(start)!;
            using var deadline = new CancellationTokenSource(Deadline, TimeProvider.System);
            string said = await process.StandardOutput.ReadToEndAsync(deadline.Token);
            await process.WaitForExitAsync(deadline.Token);
            return said.Count(static c => c == '\n');
        }
        catch (System.ComponentModel.Win32Exception missing)
        {
            throw new FabricException(ErrorCodes.Unsupported, $"There is no 'ss' to break connections with: {missing.Message}", "Install iproute2.");
        }
    }
}
