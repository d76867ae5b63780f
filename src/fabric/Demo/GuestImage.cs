using System.Diagnostics;
using Fabric.Core;

namespace Fabric.Cli.Demo;

/// <summary>Kernel and initramfs of the test guests: as the launcher gave them, or as guests/build.sh makes them.</summary>
internal sealed record GuestImage(string Kernel, string Initrd)
{
    private static readonly TimeSpan BuildWithin = TimeSpan.FromMinutes(10);

    /// <exception cref="FabricException">not-found: there is no way to get one; machine-failed: the build failed.</exception>
    public static async Task<GuestImage> FindAsync(CliContext context, CancellationToken cancellation)
    {
        if (context.Environment("FABRIC_GUEST_KERNEL") is { Length: > 0 } kernel && context.Environment("FABRIC_GUEST_INITRD") is { Length: > 0 } initrd)
            return Checked(new GuestImage(kernel, initrd));
        string? root = context.Environment("FABRIC_ROOT") ?? SourceRoot();
        if (root is null || !File.Exists(Path.Combine(root, "guests", "build.sh")))
            throw new FabricException(ErrorCodes.NotFound, "There is nothing to boot the demo's guests from.", "Run ./fabric demo in the source tree, or set FABRIC_GUEST_KERNEL and FABRIC_GUEST_INITRD; --machine synthetic needs neither.");
        return await BuildAsync(Path.Combine(root, "guests", "build.sh"), context, cancellation);
    }

    private static async Task<GuestImage> BuildAsync(string script, CliContext context, CancellationToken cancellation)
    {
        context.Say("Building the guests' kernel and initramfs (once) ...");
        var start = new ProcessStartInfo(script) { UseShellExecute = false, RedirectStandardOutput = true };
        using var process = Process.Start(start) ?? throw new FabricException(ErrorCodes.Internal, "guests/build.sh could not be started.");
        using var deadline = new CancellationTokenSource(BuildWithin, context.Time);
        using var either = CancellationTokenSource.CreateLinkedTokenSource(cancellation, deadline.Token);
        try
        {
            string printed = await process.StandardOutput.ReadToEndAsync(either.Token);
            await process.WaitForExitAsync(either.Token);
            if (process.ExitCode != 0)
                throw new FabricException(ErrorCodes.MachineFailed, $"guests/build.sh failed (exit {process.ExitCode}).", "Its messages are above.");
            var words = printed.Split((char[])[' ', '\n'], StringSplitOptions.RemoveEmptyEntries)
                .Select(w => w.Split('=', 2)).Where(p => p.Length == 2).ToDictionary(p => p[0], p => p[1], StringComparer.Ordinal);
            return words.TryGetValue("kernel", out string? kernel) && words.TryGetValue("initrd", out string? initrd)
                ? Checked(new GuestImage(kernel, initrd))
                : throw new FabricException(ErrorCodes.Malformed, "guests/build.sh did not print kernel= and initrd=.");
        }
        finally
        {
            if (!process.HasExited)
                process.Kill(entireProcessTree: true);
        }
    }

    private static GuestImage Checked(GuestImage image) =>
        Array.Find([image.Kernel, image.Initrd], path => !File.Exists(path)) is { } missing
            ? throw new FabricException(ErrorCodes.NotFound, $"'{missing}' is not there.", "Run guests/build.sh again.")
            : image;

    private static string? SourceRoot()
    {
        for (var up = new DirectoryInfo(AppContext.BaseDirectory); up is not null; up = up.Parent)
        {
            if (File.Exists(Path.Combine(up.FullName, "guests", "build.sh")))
                return up.FullName;
        }

        return null;
    }
}
