using Xunit;

namespace Fabric.Integration.Postgres;

/// <summary>One server for all tests that need one; each test makes a database of its own.</summary>
public sealed class PostgresFixture : IAsyncLifetime
{
    private TemporaryPostgres? _server;

    public async Task InitializeAsync()
    {
        if (TemporaryPostgres.Unavailable() is null)
            _server = await TemporaryPostgres.StartAsync();
    }

    public async Task DisposeAsync()
    {
        if (_server is not null)
            await _server.DisposeAsync();
    }

    /// <summary>The server; the test is skipped with the reason when there cannot be one.</summary>
    internal TemporaryPostgres Require()
    {
        Skip.If(_server is null, TemporaryPostgres.Unavailable());
        return _server!;
    }
}

[CollectionDefinition(Name)]
public sealed class PostgresCollection : ICollectionFixture<PostgresFixture>
{
    public const string Name = "postgres";
}
