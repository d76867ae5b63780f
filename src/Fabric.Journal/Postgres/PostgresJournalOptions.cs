using Fabric.Core;
using Npgsql;

namespace Fabric.Journal.Postgres;

/// <summary>Where the journal of a cluster is, and how long its callers wait.</summary>
public sealed record PostgresJournalOptions
{
    /// <summary>As Npgsql reads it: <c>Host=db;Port=5432;Database=fabric;Username=fabric;Password=…</c>. Its limits on time and connections are replaced by those below.</summary>
    public required string ConnectionString { get; init; }

    /// <summary>For a connection to be made: 1 s to 1 min, in whole seconds.</summary>
    public TimeSpan ConnectTimeout { get; init; } = TimeSpan.FromSeconds(5);

    /// <summary>For one round trip, 1 s to 1 min, in whole seconds: the server ends what takes longer, and a transaction whose node went silent, and with it its locks.</summary>
    public TimeSpan StatementTimeout { get; init; } = TimeSpan.FromSeconds(5);

    /// <summary>How long any call waits for its outcome, queueing included; beyond it the outcome is unknown.</summary>
    public TimeSpan Deadline { get; init; } = TimeSpan.FromSeconds(15);

    /// <summary>Calls that may wait, for appends, other writes and reads each; a further one is refused.</summary>
    public int QueueCapacity { get; init; } = 1024;

    /// <summary>Appends that share one transaction and so one sync of the server's disk.</summary>
    public int GroupLimit { get; init; } = 128;

    /// <summary>For reads, and as many for writes other than appends; appends have one of their own.</summary>
    public int Connections { get; init; } = 4;

    /// <summary>Never the connection string: it holds the password.</summary>
    public override string ToString() => nameof(PostgresJournalOptions);

    /// <exception cref="FabricException">invalid-argument: never with the text itself, which holds the password.</exception>
    internal NpgsqlConnectionStringBuilder Parse()
    {
        foreach (var (name, value) in new[] { ("connect", ConnectTimeout), ("statement", StatementTimeout) })
        {
            if (value < TimeSpan.FromSeconds(1) || value > TimeSpan.FromMinutes(1) || value.Ticks % TimeSpan.TicksPerSecond != 0)
                throw JournalRules.Invalid($"A {name} timeout of {value} is not possible.", "It is 1 s to 1 min, in whole seconds.");
        }

        ArgumentOutOfRangeException.ThrowIfLessThan(QueueCapacity, 1);
        ArgumentOutOfRangeException.ThrowIfLessThan(GroupLimit, 1);
        ArgumentOutOfRangeException.ThrowIfLessThan(Connections, 1);
        NpgsqlConnectionStringBuilder parsed;
        try
        {
            parsed = new NpgsqlConnectionStringBuilder(ConnectionString);
        }
        catch (Exception malformed) when (malformed is ArgumentException or FormatException or InvalidCastException or OverflowException)
        {
            // What the parser says may quote a piece of the password.
            throw JournalRules.Invalid("The journal's connection string cannot be read.", Example);
        }

        if (string.IsNullOrEmpty(parsed.Host) || string.IsNullOrEmpty(parsed.Database) || string.IsNullOrEmpty(parsed.Username))
            throw JournalRules.Invalid("The journal's connection string lacks a host, a database or a user name.", Example);
        int statement = (int)StatementTimeout.TotalMilliseconds;
        parsed.ApplicationName ??= "fabricd";
        parsed.Timeout = (int)ConnectTimeout.TotalSeconds;
        parsed.CommandTimeout = (int)StatementTimeout.TotalSeconds + 1; // the server's own limit first
        parsed.CancellationTimeout = 1000;
        parsed.NoResetOnClose = true; // nothing is left in a session, and its settings stay
        parsed.Enlist = false;
        parsed.IncludeErrorDetail = false;
        parsed.PersistSecurityInfo = false;
        parsed.Options = $"{parsed.Options} -c statement_timeout={statement} -c lock_timeout={statement * 3 / 4} -c idle_in_transaction_session_timeout={statement}" +
            $" -c tcp_user_timeout={2 * statement} -c default_transaction_isolation=read\\ committed";
        return parsed;
    }

    private const string Example = "Write it as Host=…;Port=5432;Database=…;Username=…;Password=… with quotes around values that hold a semicolon.";
}
