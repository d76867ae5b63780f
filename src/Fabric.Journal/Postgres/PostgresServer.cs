using System.Net.Sockets;
using Fabric.Core;
using Npgsql;

namespace Fabric.Journal.Postgres;

/// <summary>One database: how its connections are made, what is asked of it before it is trusted, and how its errors are told. Passwords are in none of them.</summary>
internal sealed class PostgresServer(PostgresJournalOptions options)
{
    private readonly NpgsqlConnectionStringBuilder _settings = options.Parse();

    /// <summary>Host, port and database, as errors name them.</summary>
    internal string Where => $"{_settings.Host}:{_settings.Port}, database '{_settings.Database}'";

    internal NpgsqlDataSource Connect(int connections)
    {
        var settings = new NpgsqlConnectionStringBuilder(_settings.ConnectionString) { MaxPoolSize = connections, MinPoolSize = 0 };
        var builder = new NpgsqlDataSourceBuilder(settings.ConnectionString);
        builder.UsePhysicalConnectionInitializer(_ => throw new NotSupportedException("Connections are opened asynchronously."), PrepareAsync);
        return builder.Build();
    }

    internal FabricException Describe(Exception exception)
    {
        var server = exception as PostgresException ?? exception.InnerException as PostgresException;
        string? hint = server?.SqlState switch
        {
            { } state when state.StartsWith("28", StringComparison.Ordinal) => "Check the user and the password of the connection string, and the server's pg_hba.conf.",
            "3D000" => $"Make it: createdb -h {_settings.Host} -p {_settings.Port} -O {_settings.Username} {_settings.Database}",
            "42501" => $"Let '{_settings.Username}' own the database, or grant it CREATE there.",
            "53300" => "The server has no connection left: raise max_connections, or end idle clients.",
            "53100" => "The server's disk is full: free some space.",
            "25006" => "The server is read-only: name the primary.",
            "55P03" or "57014" => "Another transaction holds the row, or the server is overloaded; a node that went silent is cut off by itself.",
            "57P01" or "57P02" or "57P03" or "25P03" => "The server ended the connection; the next call connects again.",
            null when exception is TimeoutException || exception.InnerException is TimeoutException => "The server or the way to it is too slow or cut; the next call connects again.",
            null when exception.InnerException is SocketException or IOException || exception is IOException or SocketException =>
                $"Check that PostgreSQL runs on {_settings.Host} and listens at port {_settings.Port}; the next call connects again.",
            _ => null,
        };
        string told = server is null ? "" : $" (SQLSTATE {server.SqlState})";
        string what = server?.MessageText ?? exception.Message;
        return new FabricException(ErrorCodes.StoreFailed, $"The journal at {Where} failed{told}: {what.TrimEnd('.')}. The outcome is unknown.", hint, exception);
    }

    private async Task PrepareAsync(NpgsqlConnection connection)
    {
        await RequireDurableAsync(connection);
        await PostgresSchema.RenewForAnotherLifeAsync(connection);
    }

    /// <summary>A server that forgets commits, or a copy that follows another, must not be asked who owns what.</summary>
    private async Task RequireDurableAsync(NpgsqlConnection connection)
    {
        await using var command = new NpgsqlCommand(
            """
            SELECT pg_is_in_recovery(), current_setting('fsync'), current_setting('server_encoding'), current_setting('server_version_num')::int,
                CASE WHEN current_setting('synchronous_commit') IN ('off', 'local') THEN set_config('synchronous_commit', 'on', false) END
            """,
            connection);
        await using var reader = await command.ExecuteReaderAsync();
        await reader.ReadAsync();
        if (reader.GetBoolean(0))
            throw new FabricException(ErrorCodes.StoreFailed, $"The server at {Where} is a standby; it may be behind.", "Name the primary.");
        if (reader.GetString(1) != "on")
            throw new FabricException(ErrorCodes.Incompatible, $"The server at {Where} runs with fsync = {reader.GetString(1)}: it forgets commits.", "Set fsync = on.");
        if (reader.GetString(2) != "UTF8")
            throw new FabricException(ErrorCodes.Incompatible, $"The database at {Where} is encoded in {reader.GetString(2)}.", "Make one with createdb -E UTF8 -T template0.");
        if (reader.GetInt32(3) < 130_000)
            throw new FabricException(ErrorCodes.Incompatible, $"The server at {Where} is of version {reader.GetInt32(3) / 10_000}.", "Use PostgreSQL 13 or later.");
    }
}
