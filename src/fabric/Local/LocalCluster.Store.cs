using System.Security.Cryptography;
using Fabric.Core;
using Fabric.Native;

namespace Fabric.Cli.Local;

/// <summary>
/// The PostgreSQL server of a cluster that has one of its own. Its role's password lies in a file that only the cluster's owner reads, in the form of a PostgreSQL password file;
/// control nodes are told the file's name, so no configuration holds the password.
/// </summary>
public sealed partial class LocalCluster
{
    private static readonly TimeSpan StopStoreWithin = TimeSpan.FromSeconds(20);

    /// <summary>A port that was free may be taken by another before the server has it.</summary>
    private const int PortAttempts = 3;

    private IDisposable? _leash;

    /// <summary>The directory of the server's data, which may be copied while the server is stopped; null when the cluster has no server of its own.</summary>
    public string? StoreData => Store?.DataDirectory;

    /// <summary>The server's process while it lives.</summary>
    public ProcessIdentity? StoreProcess => _record.Store?.Process is { } process && process.IsAlive() ? process : null;

    private ManagedPostgres? Store => _record.Store is { } store ? new ManagedPostgres(store.Directory, StoreLog(Directory), _time) : null;

    /// <summary>Starts the stopped or killed server again, on its port and data; returns when it serves.</summary>
    /// <exception cref="FabricException">not-found: the cluster has none; conflict: it runs; machine-failed or deadline-exceeded, with the end of its log.</exception>
    public async Task StartStoreAsync(CancellationToken cancellation)
    {
        var store = RequireStore();
        if (StoreProcess is { } running)
            throw new FabricException(ErrorCodes.Conflict, $"The PostgreSQL server runs already (pid {running.ProcessId}).");
        _leash?.Dispose();
        (var server, _leash) = store.Start(_record.Store!.Port, _options.Ephemeral);
        using (server)
        {
            Keep(now => now with { Store = now.Store! with { Process = server.Identity } });
            await store.WaitReadyAsync(server, _options.StartWithin, cancellation);
        }
    }

    /// <summary>Ends the server in good order: its sessions are cut off, what was committed is on disk. Returns when it is gone.</summary>
    public Task StopStoreAsync(CancellationToken cancellation) => EndStoreAsync(kill: false, cancellation);

    /// <summary>Ends the server as a crash of it does: all of its processes at once, without a checkpoint. Returns when it is gone.</summary>
    public Task KillStoreAsync(CancellationToken cancellation) => EndStoreAsync(kill: true, cancellation);

    private ManagedPostgres RequireStore() => Store ?? throw new FabricException(ErrorCodes.NotFound, "The cluster has no PostgreSQL server of its own.", "store: {postgresql: managed} in the file of 'fabric up --config'.");

    /// <summary>For the first time: the data directory, the password, and a port that the server can have.</summary>
    private async Task MakeStoreAsync(CancellationToken cancellation)
    {
        var store = RequireStore();
        string password = RandomNumberGenerator.GetHexString(32, lowercase: true);
        await store.InitializeAsync(password, cancellation);
        for (int attempt = 1; ; attempt++)
        {
            WritePassword(password, _record.Store!.Port);
            try
            {
                await StartStoreAsync(cancellation);
                return;
            }
            catch (FabricException failed) when (failed.Error.Code == ErrorCodes.MachineFailed && attempt < PortAttempts)
            {
                Keep(static now => now with { Store = now.Store! with { Port = ManagedPostgres.FreePort() } });
            }
        }
    }

    private void WritePassword(string password, int port)
    {
        File.Delete(StorePassword(Directory));
        MemberConfig.WriteSecret(StorePassword(Directory), $"127.0.0.1:{port}:{ManagedPostgres.Database}:{ManagedPostgres.Role}:{password}\n");
    }

    private string? StoreConnection() => _plan?.Store switch
    {
        PostgresStore there => there.Connection,
        ManagedPostgresStore => $"Host=127.0.0.1;Port={_record.Store!.Port};Database={ManagedPostgres.Database};Username={ManagedPostgres.Role};Passfile=\"{StorePassword(Directory)}\"",
        _ => null,
    };

    private async Task EndStoreAsync(bool kill, CancellationToken cancellation)
    {
        if (_record.Store?.Process is not { } identity)
            return;
        var servers = RequireStore().Servers().Append(identity).Distinct().Select(ProcessHandle.TryOpen).OfType<ProcessHandle>().ToList();
        try
        {
            foreach (var server in servers)
            {
                if (kill)
                    server.SendQuit();
                else
                    server.SendInterrupt();
            }

            var slow = await StillAliveAsync(servers, StopStoreWithin, cancellation);
            slow.ForEach(static s => s.SendKill());
            await StillAliveAsync(slow, KillWithin, cancellation);
        }
        finally
        {
            servers.ForEach(static s => s.Dispose());
            _leash?.Dispose();
            _leash = null;
        }
    }

    /// <summary>Below the cluster's directory where the server's user can enter that; a root's home it cannot.</summary>
    /// <exception cref="FabricException">unsupported, with the remedy.</exception>
    private static StoreRecord PlaceStore(string directory, string id)
    {
        if (ManagedPostgres.Lacking() is { } lacking)
            throw new FabricException(lacking);
        const string elsewhere = "/var/tmp";
        string parent = Path.GetDirectoryName(directory)!;
        if (ManagedPostgres.CanEnter(parent))
            return new StoreRecord(Path.Combine(directory, ManagedPostgres.FolderName), ManagedPostgres.FreePort(), null);
        return ManagedPostgres.CanEnter(elsewhere)
            ? new StoreRecord(Path.Combine(elsewhere, $"fabric-{id}-{ManagedPostgres.FolderName}"), ManagedPostgres.FreePort(), null)
            : throw new FabricException(ErrorCodes.Unsupported, $"Neither '{parent}' nor '{elsewhere}' can be entered by the user that PostgreSQL runs as.", "Use a --dir below a directory that everybody may enter.");
    }

    private static string StoreLog(string directory) => Path.Combine(directory, "postgresql.log");

    private static string StorePassword(string directory) => Path.Combine(directory, "postgresql.password");
}
