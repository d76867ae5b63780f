using System.Collections.Concurrent;
using System.Diagnostics;
using Fabric.Cli.Local;
using Fabric.Native;
using Npgsql;

namespace Fabric.Integration.Postgres;

/// <summary>
/// A PostgreSQL server of a test run's own: its data, its port on loopback and its password last as long as this object. It writes durably (fsync, synchronous_commit), and
/// ends when this process does, however.
/// </summary>
internal sealed class TemporaryPostgres : IAsyncDisposable
{
    private static readonly TimeSpan Deadline = TimeSpan.FromSeconds(60);

    private readonly ManagedPostgres _postgres;
    private readonly string _root;
    private readonly string _password = Guid.NewGuid().ToString("N");
    private readonly ConcurrentBag<string> _free = [];
    private ProcessHandle? _server;
    private IDisposable? _leash;
    private int _databases;

    private TemporaryPostgres(string root, int port)
    {
        _root = root;
        _postgres = new ManagedPostgres(Path.Combine(root, "server"), Path.Combine(root, "server.log"), TimeProvider.System);
        Port = port;
    }

    public int Port { get; }

    /// <summary>Why there can be no server here, as a sentence with the remedy; null when there can.</summary>
    public static string? Unavailable() => ManagedPostgres.Lacking() is { } lacking
        ? lacking.ToString()
        : ManagedPostgres.CanEnter(Path.GetTempPath()) ? null : $"'{Path.GetTempPath()}' cannot be entered by the user that PostgreSQL runs as: chmod o+x, or set TMPDIR";

    public static async Task<TemporaryPostgres> StartAsync()
    {
        string root = Directory.CreateTempSubdirectory("fabric-postgres-").FullName;
        var server = new TemporaryPostgres(root, ManagedPostgres.FreePort());
        try
        {
            if (!OperatingSystem.IsWindows())
                File.SetUnixFileMode(root, File.GetUnixFileMode(root) | UnixFileMode.OtherExecute); // the server's user passes
            await server._postgres.InitializeAsync(server._password, CancellationToken.None);
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
        await ExecuteAsync(ConnectionString(ManagedPostgres.Database), $"CREATE DATABASE {name}");
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
        if (_server is not { } server)
            return;
        _server = null;
        using (server)
        using (var watch = new DeathWatch())
        {
            if (crash)
                server.SendQuit();
            else
                server.SendInterrupt();
            try
            {
                await watch.WhenExited(server).WaitAsync(Deadline);
            }
            catch (TimeoutException)
            {
                server.SendKill();
                throw;
            }
        }

        _leash?.Dispose();
        _leash = null;
    }

    /// <summary>Starts the server, on the same port and data as before.</summary>
    public async Task ResumeAsync()
    {
        (_server, _leash) = _postgres.Start(Port, leashed: true);
        await _postgres.WaitReadyAsync(_server, Deadline, CancellationToken.None);
    }

    /// <summary>Of the running server's files, as of now; replaces the copy before.</summary>
    public async Task KeepCopyAsync()
    {
        if (Directory.Exists(Copy))
            Directory.Delete(Copy, recursive: true);
        await RunToEndAsync(Path.Combine(ManagedPostgres.Programs!, "pg_basebackup"), "-h", "127.0.0.1", "-p", $"{Port}", "-U", ManagedPostgres.Role, "-D", Copy, "-X", "stream", "-c", "fast");
    }

    /// <summary>The stopped server's files become those of the last <see cref="KeepCopyAsync"/>; the copy can be put back once.</summary>
    public async Task PutCopyBackAsync()
    {
        if (_server is not null)
            throw new InvalidOperationException("The server runs.");
        Directory.Delete(_postgres.DataDirectory, recursive: true);
        Directory.Move(Copy, _postgres.DataDirectory);
        await RunToEndAsync("chown", "-R", $"--reference={_postgres.Directory}", _postgres.DataDirectory); // root made the copy, and the server is another user
    }

    private string Copy => Path.Combine(_root, "copy");

    private async Task RunToEndAsync(string program, params string[] arguments)
    {
        var start = new ProcessStartInfo(program, arguments) { RedirectStandardError = true, UseShellExecute = false };
        start.Environment["PGPASSWORD"] = _password;
        start.Environment["LC_ALL"] = "C";
        using var process = Process.Start(start) ?? throw new InvalidOperationException("No process was started.");
        using var deadline = new CancellationTokenSource(Deadline);
        string said = await process.StandardError.ReadToEndAsync(deadline.Token);
        await process.WaitForExitAsync(deadline.Token);
        if (process.ExitCode != 0)
            throw new InvalidOperationException($"{program} failed: {said}");
    }

    public async ValueTask DisposeAsync()
    {
        try
        {
            await StopAsync(crash: false);
        }
        finally
        {
            Directory.Delete(_root, recursive: true);
        }
    }

    private string ConnectionString(string database) => new NpgsqlConnectionStringBuilder
    {
        Host = "127.0.0.1",
        Port = Port,
        Database = database,
        Username = ManagedPostgres.Role,
        Password = _password,
    }.ConnectionString;
}
