using System.Diagnostics;
using System.Globalization;
using System.Net;
using System.Net.Sockets;
using Fabric.Core;
using Fabric.Native;

namespace Fabric.Cli.Local;

/// <summary>
/// A PostgreSQL server of one's own, from the programs of the system's package: its data lies in a directory that belongs to it alone, it listens on loopback only and takes
/// passwords by SCRAM only, and it syncs what it commits. PostgreSQL refuses to be root, so root runs it as the user of the package.
/// <para>
/// This class knows no process but by the handles that it returns; its caller keeps them. Not safe for concurrent use.
/// </para>
/// </summary>
/// <param name="directory">Absolute; made by <see cref="InitializeAsync"/>, enterable for the server's user (<see cref="CanEnter"/>).</param>
/// <param name="log">Where the server's messages go; not below <paramref name="directory"/>, which is another user's.</param>
public sealed class ManagedPostgres(string directory, string log, TimeProvider time)
{
    /// <summary>The database that every new server has.</summary>
    public const string Database = "postgres";

    /// <summary>The only role.</summary>
    public const string Role = "fabric";

    internal const string FolderName = "postgresql";

    private const string SystemUser = "postgres";
    private const string Debian = "/usr/lib/postgresql"; // one folder per version
    private static readonly TimeSpan InitializeWithin = TimeSpan.FromSeconds(60);

    public string Directory { get; } = directory;

    public string DataDirectory { get; } = Path.Combine(directory, "data");

    /// <summary>Why there can be no server on this machine, with the remedy; null when there can.</summary>
    public static FabricError? Lacking()
    {
        if (Binaries() is null)
            return new FabricError(ErrorCodes.Unsupported, "No PostgreSQL server is installed.", "deploy/install-prerequisites.sh --postgresql installs its programs and starts nothing.");
        if (!Environment.IsPrivilegedProcess)
            return null;
        return File.ReadLines("/etc/passwd").Any(static line => line.StartsWith(SystemUser + ":", StringComparison.Ordinal)) && File.Exists("/usr/bin/setpriv")
            ? null
            : new FabricError(
                ErrorCodes.Unsupported, $"PostgreSQL refuses to run as root, and there is no user '{SystemUser}' or no setpriv.", "Run this as another user, or install PostgreSQL from the system's packages.");
    }

    /// <summary>Whether the server's user can enter a directory, and so have its data below it.</summary>
    public static bool CanEnter(string path)
    {
        if (!Environment.IsPrivilegedProcess)
            return true;
        for (var folder = new DirectoryInfo(path); folder is not null; folder = folder.Parent)
        {
            if (!folder.Exists || !folder.UnixFileMode.HasFlag(UnixFileMode.OtherExecute))
                return false;
        }

        return true;
    }

    /// <summary>A port of loopback that nobody uses now.</summary>
    public static int FreePort()
    {
        using var probe = new TcpListener(IPAddress.Loopback, 0);
        probe.Start();
        return ((IPEndPoint)probe.LocalEndpoint).Port;
    }

    /// <summary>Makes the directory and the data in it. The password is read by the server's program from a pipe and is never in a command line.</summary>
    /// <exception cref="FabricException">machine-failed or deadline-exceeded, with the end of the log.</exception>
    public async Task InitializeAsync(string password, CancellationToken cancellation)
    {
        System.IO.Directory.CreateDirectory(Directory, UnixFileMode.UserRead | UnixFileMode.UserWrite | UnixFileMode.UserExecute);
        // The directory is the server's before its user is taken; from then on nothing is root's.
        const string Outer =
            "log=$0 directory=$1; shift; exec >>\"$log\" 2>&1; [ \"$(id -u)\" != 0 ] || chown " + SystemUser + ": \"$directory\" || exit 1; cd \"$directory\" || exit 1; exec \"$@\"";
        const string Inner =
            "umask 077; cat >password && \"$0/initdb\" -D \"$1\" -U " + Role + " -A scram-sha-256 -k -E UTF8 --no-locale --pwfile=password; code=$?; rm -f password; exit $code";
        using var process = Launch(["/bin/sh", "-c", Outer, log, Directory, .. AsServer(), "/bin/sh", "-c", Inner, RequireBinaries(), DataDirectory]);
        using var deadline = new CancellationTokenSource(InitializeWithin, time);
        using var either = CancellationTokenSource.CreateLinkedTokenSource(cancellation, deadline.Token);
        try
        {
            await process.StandardInput.WriteLineAsync(password.AsMemory(), either.Token);
            process.StandardInput.Close();
            await process.WaitForExitAsync(either.Token);
        }
        catch (OperationCanceledException)
        {
            process.Kill(entireProcessTree: true);
            cancellation.ThrowIfCancellationRequested();
            throw new FabricException(ErrorCodes.DeadlineExceeded, $"PostgreSQL made no data directory within {InitializeWithin.TotalSeconds:0} s.{LogTail()}");
        }

        if (process.ExitCode != 0)
            throw new FabricException(ErrorCodes.MachineFailed, $"PostgreSQL could not make its data directory.{LogTail()}");
    }

    /// <summary>
    /// Starts the server in a session of its own. With a leash it also ends when this process does, however: a shell beside it reads from a pipe that only this process
    /// holds open, and interrupts the server at its end.
    /// </summary>
    /// <returns>The server, and the leash: what holds the pipe, to be disposed when the server has been ended; null without one.</returns>
    public (ProcessHandle Server, IDisposable? Leash) Start(int port, bool leashed)
    {
        // The shell becomes the server and keeps its number. The leash asks whether that number is still the server's before it sends anything.
        const string Begin = "log=$0 data=$1; shift; exec >>\"$log\" 2>&1; ";
        const string Leash =
            "exec 3<&0; ( ( read -r _ <&3; tr '\\0' '\\n' <\"/proc/$$/cmdline\" | grep -qxF -- \"$data\" && kill -INT $$ ) & ) 2>/dev/null; exec 3<&-; ";
        const string Become = "exec \"$@\" </dev/null";
        string[] settings =
        [
            "-c", "listen_addresses=127.0.0.1", "-c", "unix_socket_directories=", "-c", "max_connections=100", "-c", "shared_buffers=64MB", "-c", "logging_collector=off",
        ];
        var process = Launch(
        [
            "/usr/bin/setsid", "/bin/sh", "-c", Begin + (leashed ? Leash : "") + Become, log, DataDirectory,
            .. AsServer(), Path.Combine(RequireBinaries(), "postgres"), "-D", DataDirectory, "-p", port.ToString(CultureInfo.InvariantCulture), .. settings,
        ]);
        if (!leashed)
            process.StandardInput.Close();
        var server = ProcessHandle.TryOpen(process.Id);
        if (server is not null && leashed)
            return (server, new Pipe(process));
        process.Dispose();
        return (server ?? throw new FabricException(ErrorCodes.MachineFailed, $"PostgreSQL ended at once.{LogTail()}"), null);
    }

    /// <summary>True once the server takes connections, as its own status file says.</summary>
    public bool IsReady(ProcessIdentity server)
    {
        ArgumentNullException.ThrowIfNull(server);
        try
        {
            string[] lines = File.ReadAllLines(Path.Combine(DataDirectory, "postmaster.pid"));
            return lines.Length >= 8 && lines[0] == server.ProcessId.ToString(CultureInfo.InvariantCulture) && lines[7].StartsWith("ready", StringComparison.Ordinal);
        }
        catch (IOException)
        {
            return false; // not there yet
        }
    }

    /// <summary>Returns when the server takes connections.</summary>
    /// <exception cref="FabricException">machine-failed: it ended; deadline-exceeded; both with the end of its log.</exception>
    public async Task WaitReadyAsync(ProcessHandle server, TimeSpan within, CancellationToken cancellation)
    {
        ArgumentNullException.ThrowIfNull(server);
        long begun = time.GetTimestamp();
        while (!IsReady(server.Identity))
        {
            if (server.HasExited)
                throw new FabricException(ErrorCodes.MachineFailed, $"PostgreSQL ended before it served.{LogTail()}", $"All of it: {log}");
            if (time.GetElapsedTime(begun) > within)
                throw new FabricException(ErrorCodes.DeadlineExceeded, $"PostgreSQL did not serve within {within.TotalSeconds:0} s.{LogTail()}", $"All of it: {log}");
            await Task.Delay(TimeSpan.FromMilliseconds(25), time, cancellation);
        }
    }

    /// <summary>Servers on this data directory that live now, whoever started them.</summary>
    public IReadOnlyList<ProcessIdentity> Servers() => LeftOvers.Processes(words => Path.GetFileName(words[0]) == "postgres" && words.Contains(DataDirectory, StringComparer.Ordinal));

    /// <summary>The end of the server's log, each line indented, after a line break.</summary>
    public string LogTail() => File.Exists(log) ? string.Concat(File.ReadLines(log).TakeLast(15).Select(static line => "\n  | " + (line.Length <= 400 ? line : line[..400] + "…"))) : "";

    /// <summary>The folder of the server's programs; null when there is none.</summary>
    public static string? Programs => Binaries();

    private static string RequireBinaries() => Binaries() ?? throw new FabricException(Lacking()!);

    private static string? Binaries()
    {
        var debian = !System.IO.Directory.Exists(Debian)
            ? []
            : System.IO.Directory.EnumerateDirectories(Debian)
                .OrderByDescending(static folder => int.TryParse(Path.GetFileName(folder), NumberStyles.None, CultureInfo.InvariantCulture, out int version) ? version : 0)
                .Select(static folder => Path.Combine(folder, "bin"));
        return debian.Append("/usr/bin").Append("/usr/local/bin").FirstOrDefault(static folder => File.Exists(Path.Combine(folder, "initdb")) && File.Exists(Path.Combine(folder, "postgres")));
    }

    /// <summary>The words before a command that the server's user is to run.</summary>
    private static string[] AsServer() =>
        Environment.IsPrivilegedProcess ? ["/usr/bin/setpriv", $"--reuid={SystemUser}", $"--regid={SystemUser}", "--init-groups"] : [];

    private static Process Launch(IReadOnlyList<string> words)
    {
        var start = new ProcessStartInfo(words[0]) { WorkingDirectory = "/", RedirectStandardInput = true, UseShellExecute = false };
        foreach (string word in words.Skip(1))
            start.ArgumentList.Add(word);
        start.Environment["LC_ALL"] = "C";
        return Process.Start(start) ?? throw new FabricException(ErrorCodes.Internal, "PostgreSQL could not be started.");
    }

    private sealed class Pipe(Process process) : IDisposable
    {
        public void Dispose()
        {
            process.StandardInput.Close();
            process.Dispose();
        }
    }
}
