using Fabric.Journal.Postgres;
using Npgsql;

namespace Fabric.Integration.Postgres;

/// <summary>
/// A database whose clock stands still: a function of the name of the server's own clock is found first. It is moved by <see cref="AdvanceAsync"/>.
/// </summary>
internal sealed class TestDatabase(TemporaryPostgres server, string connectionString) : IAsyncDisposable
{
    private const string Clock = """
        CREATE SCHEMA test;
        CREATE TABLE test.now (at timestamptz NOT NULL);
        INSERT INTO test.now VALUES ('2026-01-01T00:00:00Z');
        CREATE FUNCTION test.clock_timestamp() RETURNS timestamptz LANGUAGE sql VOLATILE AS 'SELECT at FROM test.now';
        """;

    public static async Task<TestDatabase> CreateAsync(TemporaryPostgres server)
    {
        var database = new TestDatabase(server, await server.TakeDatabaseAsync());
        await database.ExecuteAsync(Clock);
        return database;
    }

    public PostgresJournalOptions Options => new()
    {
        ConnectionString = new NpgsqlConnectionStringBuilder(connectionString) { SearchPath = "test,pg_catalog" }.ConnectionString,
        StatementTimeout = TimeSpan.FromSeconds(2),
    };

    public Task ExecuteAsync(string sql) => TemporaryPostgres.ExecuteAsync(connectionString, sql);

    public Task AdvanceAsync(TimeSpan by) => ExecuteAsync($"UPDATE test.now SET at = at + interval '{(long)by.TotalMilliseconds} milliseconds'");

    public async ValueTask DisposeAsync() => await server.GiveBackAsync(connectionString);
}
