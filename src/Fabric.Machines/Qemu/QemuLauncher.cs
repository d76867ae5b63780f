using System.ComponentModel;
using System.Diagnostics;
using System.Globalization;
using Fabric.Core;
using Fabric.Native;

namespace Fabric.Machines.Qemu;

/// <summary>A QEMU process that has just started, with the userfaultfd it handed over. Owned by whoever got it.</summary>
internal sealed record LaunchedQemu(ProcessHandle Process, UserFault Fault, ShimHello Hello, Func<int?> ExitCode);

/// <summary>
/// Starts a QEMU process with the shim in it. The process gets files, not pipes, for its output, leaves this agent's session, and
/// belongs to nobody's lifetime: it goes on when the agent ends.
/// </summary>
internal sealed class QemuLauncher(QemuOptions options, TimeProvider time)
{
    private const int EarlyOutputCharacters = 4096;

    /// <exception cref="FabricException">machine-failed with what QEMU, the shim or the loader said. No process is left then.</exception>
    internal async Task<LaunchedQemu> LaunchAsync(IReadOnlyList<string> arguments, MachineFiles files, CancellationToken cancellation)
    {
        using var listener = DescriptorListener.Bind(files.Shim);
        var started = Start(arguments, files);
        ProcessHandle? process = null;
        try
        {
            // Output that comes before the shim has redirected it (the loader's, for example): this pipe ends when the shim takes over.
            var earlyWords = ReadEarlyAsync(started.StandardError);
            process = ProcessHandle.TryOpen(started.Id);
            byte[] payload = new byte[ShimHello.Bytes];
            // Blocking, but short: the shim runs before QEMU's main. Looks at the process and the token ten times a second.
            var received = process is null ? null : await Task.Run(() => Receive(listener, process, payload, cancellation), CancellationToken.None);
            cancellation.ThrowIfCancellationRequested();
            if (received is not { } descriptor)
                throw await NoDescriptorAsync(started, earlyWords, files);
            var fault = new UserFault(descriptor.Descriptor);
            try
            {
                return new LaunchedQemu(process!, fault, ShimHello.Parse(payload.AsSpan(0, descriptor.PayloadBytes)), () => ExitCodeOf(started));
            }
            catch
            {
                fault.Dispose();
                throw;
            }
        }
        catch
        {
            await EndAsync(started);
            process?.Dispose();
            started.Dispose();
            throw;
        }
    }

    /// <summary>Whoever is told that nothing was launched may count processes: the kill is over when it is said.</summary>
    private async Task EndAsync(Process started)
    {
        started.Kill();
        try
        {
            await started.WaitForExitAsync(CancellationToken.None).WaitAsync(options.KillDeadline, time, CancellationToken.None);
        }
        catch (TimeoutException)
        {
            // It hangs in the kernel and ends when that lets it go: the kill stands.
        }
    }

    private Process Start(IReadOnlyList<string> arguments, MachineFiles files)
    {
        if (!File.Exists(options.ShimPath))
            throw new FabricException(ErrorCodes.Unsupported, $"The library to be preloaded into QEMU is not at '{options.ShimPath}'.", "Install gcc and build again: it is compiled with the project.");
        var start = new ProcessStartInfo(options.Binary, arguments)
        {
            UseShellExecute = false,
            RedirectStandardInput = true,
            RedirectStandardOutput = true,
            RedirectStandardError = true,
            WorkingDirectory = files.Directory,
        };
        start.Environment["LD_PRELOAD"] = options.ShimPath;
        start.Environment["FABRIC_SHIM_SOCKET"] = files.Shim;
        start.Environment["FABRIC_SHIM_LOG"] = files.HypervisorLog;
        start.Environment["FABRIC_SHIM_FEATURES"] = ((long)UserFaultFeatures.Required).ToString(CultureInfo.InvariantCulture);
        try
        {
            return Process.Start(start) ?? throw new FabricException(ErrorCodes.MachineFailed, $"'{options.Binary}' did not start.");
        }
        catch (Win32Exception error)
        {
            throw new FabricException(ErrorCodes.MachineFailed, $"'{options.Binary}' cannot be started: {error.Message}", "Install it: apt install qemu-system-x86", error);
        }
    }

    private ReceivedDescriptor? Receive(DescriptorListener listener, ProcessHandle process, byte[] payload, CancellationToken cancellation) =>
        listener.Receive(process.Identity.ProcessId, payload, options.LaunchDeadline, time, () => cancellation.IsCancellationRequested || process.HasExited);

    private async Task<FabricException> NoDescriptorAsync(Process started, Task<string> earlyWords, MachineFiles files)
    {
        int? exit = ExitCodeOf(started);
        if (exit is null)
            started.Kill();
        string early = "";
        try
        {
            early = await earlyWords.WaitAsync(TimeSpan.FromSeconds(1), time);
        }
        catch (TimeoutException)
        {
            // Something else holds the pipe; what the log says must do.
        }

        string words = string.Join("; ", new[] { MachineFiles.Printable(early), files.LastWords() }.Where(w => w.Length > 0));
        string what = exit is { } code ? $"QEMU ended with status {code} before it began" : "QEMU did not hand over its userfaultfd in time";
        return new FabricException(ErrorCodes.MachineFailed, words.Length == 0 ? $"{what}." : $"{what}: {words}", "Run the doctor: it names what this host lacks.");
    }

    private static async Task<string> ReadEarlyAsync(StreamReader error)
    {
        char[] buffer = new char[EarlyOutputCharacters];
        int filled = await error.ReadBlockAsync(buffer);
        return new string(buffer, 0, filled);
    }

    /// <summary>The exit status of a child of this agent; null while it runs or when it cannot be known.</summary>
    private static int? ExitCodeOf(Process process)
    {
        try
        {
            return process.WaitForExit(TimeSpan.FromSeconds(1)) ? process.ExitCode : null;
        }
        catch (InvalidOperationException)
        {
            return null;
        }
    }
}
