using System.ComponentModel;
using System.Diagnostics;

namespace Fabric.Native;

/// <summary>Runs a program that only says something about itself.</summary>
internal static class Probe
{
    private const int OutputCharacters = 4096;

    private static readonly TimeSpan Deadline = TimeSpan.FromSeconds(10);

    /// <summary>Whether it started, and what it printed (at most 4096 characters).</summary>
    internal static (bool Started, string Output) Run(string program, string argument)
    {
        try
        {
            using var process = Process.Start(new ProcessStartInfo(program, [argument]) { RedirectStandardOutput = true, RedirectStandardError = true, UseShellExecute = false });
            if (process is null)
                return (false, "");
            if (!process.WaitForExit(Deadline))
            {
                process.Kill();
                return (false, "");
            }

            char[] buffer = new char[OutputCharacters];
            return (true, new string(buffer, 0, process.StandardOutput.ReadBlock(buffer)));
        }
        catch (Win32Exception)
        {
            return (false, "");
        }
    }
}
