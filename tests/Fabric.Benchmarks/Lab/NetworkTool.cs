using System.ComponentModel;
using System.Diagnostics;
using Fabric.Core;

namespace Fabric.Benchmarks.Lab;

/// <summary>Runs iproute2's programs, each to its end and with a deadline.</summary>
internal static class NetworkTool
{
    private static readonly TimeSpan Deadline = TimeSpan.FromSeconds(20);

    /// <summary>What the program printed.</summary>
    /// <exception cref="FabricException">native: it failed, with its own words; unsupported: it is not installed.</exception>
    internal static string Run(string program, params IEnumerable<string> arguments) => Run(program, arguments, null);

    /// <summary>Lines for <c>ip -batch</c>: they are done in order, and the first that fails ends it.</summary>
    /// <param name="space">The network namespace; null: this process's own.</param>
    /// <param name="lines">Commands of <c>ip</c> without the word itself.</param>
    internal static void Batch(string? space, IEnumerable<string> lines) =>
        Run("ip", [.. space is null ? (IEnumerable<string>)[] : ["-n", space], "-batch", "-"], string.Join('\n', lines) + "\n");

    private static string Run(string program, IEnumerable<string> arguments, string? input)
    {
        var start = new ProcessStartInfo(program, arguments) { RedirectStandardInput = true, RedirectStandardOutput = true, RedirectStandardError = true, UseShellExecute = false };
        try
        {
            using var process = Process.Start(start) ?? throw new FabricException(ErrorCodes.Native, $"'{program}' did not start.");
            process.StandardInput.Write(input);
            process.StandardInput.Close();
            var words = process.StandardError.ReadToEndAsync();
            string output = process.StandardOutput.ReadToEnd();
            if (!process.WaitForExit(Deadline))
            {
                process.Kill();
                throw new FabricException(ErrorCodes.DeadlineExceeded, $"'{program} {string.Join(' ', start.ArgumentList)}' took longer than {Deadline.TotalSeconds:0} s.");
            }

            return process.ExitCode == 0
                ? output
                : throw new FabricException(ErrorCodes.Native, $"'{program} {string.Join(' ', start.ArgumentList)}' failed: {words.GetAwaiter().GetResult().Trim()}", input);
        }
        catch (Win32Exception absent)
        {
            throw new FabricException(ErrorCodes.Unsupported, $"'{program}' cannot be started: {absent.Message}", "Install it: apt install iproute2", absent);
        }
    }
}
