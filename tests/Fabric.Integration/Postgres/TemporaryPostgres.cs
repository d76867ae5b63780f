using System.Collections.Concurrent;
using System.Diagnostics;
using System.Net;
using System.Net.Sockets;
using Npgsql;

namespace Fabric.Integration.Postgres;

/// <summary>
/// A PostgreSQL server of one's own: its data, its port on loopback and its password last as long as this object. It writes durably (fsync, synchronous_commit).
/// It runs under a shell that reads from this process: when this process ends, however, the shell ends the server. PostgreSQL refuses to be root, so root
/// runs it as the user of Debian's package.
/// </summary>
internal sealed class TemporaryPostgres : IAsyncDisposable
{
    private const string User = "postgres";
    private static readonly TimeSpan Deadline = TimeSpan.FromSeconds(60);

    private readonly string _binaries;
    private readonly string _directory;
    private readonly string _password = Guid.NewGuid().ToString("N");
    private Process? _shell;
    private readonly ConcurrentBag<string> _free = [];
    private int _databases;

    private TemporaryPostgres(string binaries, string directory, int port) => (_binaries, _directory, Port) = (binaries, directory, port);

    public int Port { get; }

    /// <summary>Why there can be no server here, as a sentence with the remedy; null when there can.</summary>
    public static string? Unavailable()
    {
        if (FindBinaries() is null)
            return "no PostgreSQL server is installed: apt-get install postgresql (deploy/install-prerequisites.sh --tests)";
        if (Environment.UserName != "root")
            return null;
        if (!File.ReadLines("/etc/passwd").Any(static line => line.StartsWith(User + ":", StringComparison.Ordinal)) || !File.Exists("/usr/bin/setpriv"))
            return $"PostgreSQL refuses to run as root, and there is no user '{User}' or no setpriv: run the tests as another user";
        for (var folder = new DirectoryInfo(Path.GetTempPath()); folder is not null; folder = folder.Parent)
        {
            if (!folder.UnixFileMode.HasFlag(UnixFileMode.OtherExecute))
                return $"'{folder.FullName}' cannot be entered by the user '{User}' that PostgreSQL runs as: chmod o+x, or set TMPDIR";
        }

        return null;
    }

    public static async Task<TemporaryPostgres> StartAsync()
    {
        string directory = Directory.CreateTempSubdirectory("fabric-postgres-").FullName;
        var server = new TemporaryPostgres(FindBinaries() ?? throw new InvalidOperationException(Unavailable()), directory, FreePort());
        try
        {
            // The server's user makes its data directory in here; nobody else's files can be removed.
            if (!OperatingSystem.IsWindows())
                File.SetUnixFileMode(directory, (UnixFileMode)0b1_111_111_111);
            string secret = Path.Combine(directory, "password");
            await File.WriteAllTextAsync(secret, server._password);
            await server.RunToEndAsync("\"$0/initdb\" -D data -U fabric -A scram-sha-256 --pwfile=password -E UTF8 --no-locale >initdb.log 2>&1", "initdb.log", server._binaries);
            File.Delete(secret);
            await server.ResumeAsync();
            return server;
        }
        catch
        {
            await server.DisposeAsync();
            throw;
        }
    }

    /// <summary>An empty database; its connection string.</summary>
    public async Task<string> TakeDatabaseAsync()
    {
        if (_free.TryTake(out string? used))
            return used;
        string name = $"fabric_{Interlocked.Increment(ref _databases)}";
        await ExecuteAsync(ConnectionString("postgres"), $"CREATE DATABASE {name}");
        return ConnectionString(name);
    }

    /// <summary>Whoever is still connected is cut off. The database is emptied for the next user: to drop it would cost a checkpoint.</summary>
    public async Task GiveBackAsync(string database)
    {
        await ExecuteAsync(
            database,
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid();" +
            "DROP SCHEMA IF EXISTS fabric, test CASCADE");
        _free.Add(database);
    }

    public static async Task ExecuteAsync(string connectionString, string sql)
    {
        await using var connection = new NpgsqlConnection(new NpgsqlConnectionStringBuilder(connectionString) { Pooling = false }.ConnectionString);
        await connection.OpenAsync();
        await using var command = new NpgsqlCommand(sql, connection);
        await command.ExecuteNonQueryAsync();
    }

    /// <summary>Stops the server: at once, as a crash of it would, or after it has ended its sessions.</summary>
    public async Task StopAsync(bool crash)
    {
        if (_shell is not { } shell)
            return;
        _shell = null;
        await shell.StandardInput.WriteLineAsync(crash ? "QUIT" : "INT");
        shell.StandardInput.Close();
        using var deadline = new CancellationTokenSource(Deadline);
        try
        {
            await shell.WaitForExitAsync(deadline.Token);
        }
        catch (OperationCanceledException late)
        {
            shell.Kill(entireProcessTree: true);
            throw new TimeoutException("PostgreSQL did not stop.", late);
        }
        finally
        {
            shell.Dispose();
        }
    }

    /// <summary>Starts the server, on the same port and data as before.</summary>
    public async Task ResumeAsync()
    {
        _shell = Run(
            "\"$0/postgres\" -D data -p \"$1\" -c listen_addresses=127.0.0.1 -c unix_socket_directories= -c max_connections=100 -c shared_buffers=64MB >>server.log 2>&1 & " +
            "server=$!; read -r signal; kill -\"${signal:-INT}\" $server 2>/dev/null; wait $server",
            _binaries,
            $"{Port}");
        using var deadline = new CancellationTokenSource(Deadline);
        while (true)
        {
            try
            {
                await ExecuteAsync(ConnectionString("postgres"), "SELECT 1");
                return;
            }
            catch (NpgsqlException) when (!deadline.IsCancellationRequested && !_shell.HasExited)
            {
                await Task.Delay(TimeSpan.FromMilliseconds(50), TimeProvider.System, CancellationToken.None);
            }
            catch (NpgsqlException failure)
            {
                throw new InvalidOperationException($"PostgreSQL does not start: {await File.ReadAllTextAsync(Path.Combine(_directory, "server.log"))}", failure);
            }
        }
    }

    /// <summary>Of the running server's files, as of now; replaces the copy before.</summary>
    public Task KeepCopyAsync() => RunToEndAsync(
        "rm -rf copy && PGPASSWORD=\"$2\" \"$0/pg_basebackup\" -h 127.0.0.1 -p \"$1\" -U fabric -D copy -X stream -c fast >copy.log 2>&1", "copy.log", _binaries, $"{Port}", _password);

    /// <summary>The stopped server's files become those of the last <see cref="KeepCopyAsync"/>; the copy can be put back once.</summary>
    public Task PutCopyBackAsync() => _shell is null
        ? RunToEndAsync("rm -rf data && mv copy data >copy.log 2>&1", "copy.log")
        : throw new InvalidOperationException("The server runs.");

    public async ValueTask DisposeAsync()
    {
        try
        {
            await StopAsync(crash: false);
        }
        finally
        {
            Directory.Delete(_directory, recursive: true);
        }
    }

    private string ConnectionString(string database) => new NpgsqlConnectionStringBuilder
    {
        Host = "127.0.0.1",
        Port = Port,
        Database = database,
        Username = "fabric",
        Password = _password,
    }.ConnectionString;

    private async Task RunToEndAsync(string script, string log, params string[] arguments)
    {
        using var process = Run(script, arguments);
        using var deadline = new CancellationTokenSource(Deadline);
        await process.WaitForExitAsync(deadline.Token);
        if (process.ExitCode != 0)
            throw new InvalidOperationException($"{script}: {await File.ReadAllTextAsync(Path.Combine(_directory, log))}");
    }

    private Process Run(string script, params string[] arguments)
    {
        var start = new ProcessStartInfo { WorkingDirectory = _directory, RedirectStandardInput = true, UseShellExecute = false };
        IEnumerable<string> command = ["/bin/sh", "-c", script, .. arguments];
        if (Environment.UserName == "root")
            command = ["/usr/bin/setpriv", $"--reuid={User}", $"--regid={User}", "--init-groups", .. command];
        start.FileName = command.First();
        foreach (string argument in command.Skip(1))
            start.ArgumentList.Add(argument);
        start.Environment["LC_ALL"] = "C";
        return Process.Start(start) ?? throw new InvalidOperationException("No process was started.");
    }

    private static string? FindBinaries()
    {
        const string root = "/usr/lib/postgresql"; // Debian's place, one folder per version
        return !Directory.Exists(root)
            ? null
            : Directory.EnumerateDirectories(root)
                .Where(static folder => File.Exists(Path.Combine(folder, "bin", "initdb")) && File.Exists(Path.Combine(folder, "bin", "postgres")))
                .OrderByDescending(static folder => int.TryParse(Path.GetFileName(folder), out int version) ? version : 0)
                .Select(static folder => Path.Combine(folder, "bin"))
                .FirstOrDefault();
    }

    private static int FreePort()
    {
        using var probe = new TcpListener(IPAddress.Loopback, 0);
        probe.Start();
        return ((IPEndPoint)probe.LocalEndpoint).Port;
    }
}
