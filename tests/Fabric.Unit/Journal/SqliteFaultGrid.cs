using Fabric.Actors.Testing;
using Fabric.Journal;
using Fabric.Journal.Sqlite;
using Microsoft.Data.Sqlite;

namespace Fabric.Unit.Journal;

/// <summary>Faults on SQLite's own threads: an error or a stop before the transaction, an error after its commit.</summary>
public sealed class SqliteFaultGrid : JournalFaultGrid
{
    private readonly string _folder = Directory.CreateTempSubdirectory("fabric-journal-").FullName;
    private readonly ManualTime _clock = new();
    private readonly SemaphoreSlim _arrived = new(0);
    private readonly ManualResetEventSlim _healed = new();
    private StoreFault? _armed;

    protected override async Task<(IJournal Faulty, IJournal Whole)> OpenAsync()
    {
        var options = new SqliteJournalOptions { Path = Path.Combine(_folder, "journal.db"), BusyTimeout = TimeSpan.FromSeconds(5) };
        var faulty = await SqliteJournal.OpenAsync(options with { Beginning = Begin, Committed = Commit }, _clock, new Random(1), None);
        return (faulty, await SqliteJournal.OpenAsync(options, _clock, new Random(2), None));
    }

    protected override void Arm(StoreCall call, StoreFault fault) => _armed = fault;

    protected override void PassDeadline()
    {
        if (!_arrived.Wait(TimeSpan.FromSeconds(30)))
            throw new TimeoutException("The call did not reach the store.");
        _clock.Advance(TimeSpan.FromSeconds(16));
    }

    protected override void Heal() => _healed.Set();

    protected override Task RemoveAsync()
    {
        Directory.Delete(_folder, recursive: true);
        return Task.CompletedTask;
    }

    private void Begin()
    {
        switch (_armed)
        {
            case StoreFault.ErrorBefore:
                _armed = null;
                throw new SqliteException("disk I/O error", 10);
            case StoreFault.NoAnswer:
                _armed = null;
                _arrived.Release();
                _healed.Wait(TimeSpan.FromMinutes(1));
                break;
            case StoreFault.Delay:
                _armed = null;
                _healed.Wait(TimeSpan.FromMilliseconds(300));
                break;
        }
    }

    private void Commit()
    {
        if (_armed != StoreFault.ErrorAfterCommit)
            return;
        _armed = null;
        throw new SqliteException("disk I/O error", 10);
    }
}
