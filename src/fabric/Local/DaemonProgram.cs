using System.Diagnostics;
using System.Runtime.InteropServices;
using Fabric.Core;
using Fabric.Native;

namespace Fabric.Cli.Local;

/// <summary>Finds fabricd and starts it as a process of its own session, with files instead of pipes.</summary>
public static class DaemonProgram
{
    /// <summary>$FABRIC_DAEMON, beside this program, or where a build of the source tree puts it.</summary>
    /// <exception cref="FabricException">not-found, naming the places looked at.</exception>
    public static string Find(Func<string, string?> environment)
    {
        ArgumentNullException.ThrowIfNull(environment);
        var places = new List<string>();
        if (environment("FABRIC_DAEMON") is { Length: > 0 } given)
            places.Add(Path.GetFullPath(given));
        string here = AppContext.BaseDirectory;
        places.Add(Path.Combine(here, "fabricd", "fabricd.dll"));
        for (var up = new DirectoryInfo(here); up is not null; up = up.Parent)
        {
            // …/src/fabric/bin/Release/net10.0 or …/tests/X/bin/Release/net10.0 → …/src/fabricd/bin/Release/net10.0
            string source = Path.Combine(up.FullName, "src", "fabricd", "bin");
            if (!Directory.Exists(source))
                continue;
            string configuration = here.Contains("/Release/", StringComparison.Ordinal) ? "Release" : "Debug";
            places.Add(Path.Combine(source, configuration, "net10.0", "fabricd.dll"));
            break;
        }

        return places.Find(File.Exists)
            ?? throw new FabricException(ErrorCodes.NotFound, $"fabricd was not found; looked at {string.Join(", ", places)}.", "Build it (dotnet build src/fabricd), or name it with FABRIC_DAEMON.");
    }

    /// <summary>
    /// Starts a daemon that outlives this process. A shell only opens the log and gives way (exec); <c>setsid</c> takes the daemon out of the
    /// terminal's process group, so that Ctrl-C reaches the command line alone. The pid stays the same through both, and through <paramref name="enter"/>.
    /// </summary>
    /// <param name="enter">Words put before the command; see <see cref="MemberPlace"/>.</param>
    /// <exception cref="FabricException">internal: it could not be started, or ended at once.</exception>
    public static ProcessHandle Start(IReadOnlyList<string> enter, string program, IEnumerable<string> arguments, string log, IReadOnlyDictionary<string, string> environment)
    {
        ArgumentNullException.ThrowIfNull(environment);
        var start = new ProcessStartInfo("/bin/sh") { UseShellExecute = false, WorkingDirectory = "/" };
        foreach (string word in (string[])["-c", "exec setsid \"$@\" </dev/null >>\"$0\" 2>&1", log, .. enter])
            start.ArgumentList.Add(word);
        if (program.EndsWith(".dll", StringComparison.Ordinal))
            start.ArgumentList.Add(DotnetHost());
        start.ArgumentList.Add(program);
        foreach (string argument in arguments)
            start.ArgumentList.Add(argument);

        foreach (var (name, value) in environment)
            start.Environment[name] = value;

        // The object is kept no longer than the start: the runtime reaps a child that ends, and the pidfd tells of it.
        using var process = Process.Start(start) ?? throw new FabricException(ErrorCodes.Internal, "fabricd could not be started.");
        return ProcessHandle.TryOpen(process.Id)
            ?? throw new FabricException(ErrorCodes.Internal, "fabricd ended at once.", $"Its log is {log}.");
    }

    private static string DotnetHost()
    {
        string? own = Environment.ProcessPath;
        if (own is not null && Path.GetFileName(own) == "dotnet")
            return own;
        string shared = Path.GetFullPath(Path.Combine(RuntimeEnvironment.GetRuntimeDirectory(), "..", "..", "..", "dotnet"));
        return File.Exists(shared) ? shared : "dotnet";
    }
}
