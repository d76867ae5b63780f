using Fabric.Journal;
using Fabric.Journal.Postgres;
using Fabric.Unit.Journal;
using Npgsql;
using Xunit;

namespace Fabric.Integration.Postgres;

/// <summary>Faults on the way to a real server.</summary>
[Collection(PostgresCollection.Name)]
public sealed class PostgresFaultGrid(PostgresFixture fixture) : JournalFaultGrid
{
    private TestDatabase? _database;
    private FaultyPath? _path;

    protected override async Task<(IJournal Faulty, IJournal Whole)> OpenAsync()
    {
        var server = fixture.Require();
        _database = await TestDatabase.CreateAsync(server);
        _path = new FaultyPath(server.Port);
        var options = _database.Options with { StatementTimeout = TimeSpan.FromSeconds(1), ConnectTimeout = TimeSpan.FromSeconds(1), Connections = 1 };
        var through = options with { ConnectionString = new NpgsqlConnectionStringBuilder(options.ConnectionString) { Port = _path.Port, SslMode = SslMode.Disable }.ConnectionString };
        var faulty = await PostgresJournal.OpenAsync(through, TimeProvider.System, new Random(1), None);
        return (faulty, await PostgresJournal.OpenAsync(options, TimeProvider.System, new Random(2), None));
    }

    protected override void Arm(StoreCall call, StoreFault fault) => _path!.Fault = fault switch
    {
        StoreFault.NoAnswer => PathFault.Swallow,
        StoreFault.ErrorBefore => PathFault.CutBefore,
        StoreFault.Delay => PathFault.Delay,
        _ => call is StoreCall.Append or StoreCall.Snapshot ? PathFault.CutCommitted : PathFault.CutAnswer,
    };

    protected override void PassDeadline()
    {
        // The command's own timeout.
    }

    protected override void Heal() => _path!.Fault = PathFault.None;

    protected override async Task RemoveAsync()
    {
        if (_path is not null)
            await _path.DisposeAsync();
        if (_database is not null)
            await _database.DisposeAsync();
    }
}
