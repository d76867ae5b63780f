using Fabric.Core;
using Fabric.Host.Ledger;

namespace Fabric.Benchmarks.Scale;

/// <summary>
/// Real ledger files, synced at each append, of which only so many are open at once: a process may have fewer descriptors than twenty thousand. The least recently written one is
/// closed, and opened again when it is written.
/// </summary>
internal sealed class LedgerPool(int mostOpen)
{
    private readonly Lock _gate = new();
    private readonly LinkedList<PooledLedger> _open = new(); // under _gate; the latest first
    private long _appends;

    internal long Appends => Interlocked.Read(ref _appends);

    internal void Used(PooledLedger ledger)
    {
        Interlocked.Increment(ref _appends);
        PooledLedger? closing = null;
        lock (_gate)
        {
            if (ledger.Place.List is not null)
                _open.Remove(ledger.Place);
            _open.AddFirst(ledger.Place);
            if (_open.Count > mostOpen)
            {
                closing = _open.Last!.Value;
                _open.RemoveLast();
            }
        }

        closing?.Close();
    }

    internal void Gone(PooledLedger ledger)
    {
        lock (_gate)
        {
            if (ledger.Place.List is not null)
                _open.Remove(ledger.Place);
        }
    }
}

/// <summary>One host's ledgers.</summary>
internal sealed class PooledLedgers(string directory, LedgerPool pool) : ILedgerStore
{
    private readonly LedgerDirectory _names = new(directory);

    public IReadOnlyList<VmName> List() => _names.List();

    public IVmLedger Open(VmName vm) => new PooledLedger(Path.Combine(directory, vm.Value + ".ledger"), pool);
}

internal sealed class PooledLedger : IVmLedger
{
    private readonly string _path;
    private readonly LedgerPool _pool;
    private readonly Lock _gate = new();
    private LedgerFile? _file; // under _gate

    internal PooledLedger(string path, LedgerPool pool)
    {
        (_path, _pool) = (path, pool);
        Place = new LinkedListNode<PooledLedger>(this);
        using var first = LedgerFile.Open(path);
        State = first.State;
    }

    internal LinkedListNode<PooledLedger> Place { get; }

    public VmLedgerState State { get; private set; }

    public void Append(params ReadOnlySpan<VmRecord> records)
    {
        lock (_gate)
        {
            var file = _file ??= LedgerFile.Open(_path);
            file.Append(records);
            State = file.State;
        }

        _pool.Used(this);
    }

    internal void Close()
    {
        lock (_gate)
        {
            _file?.Dispose();
            _file = null;
        }
    }

    public void Dispose()
    {
        _pool.Gone(this);
        Close();
    }
}
