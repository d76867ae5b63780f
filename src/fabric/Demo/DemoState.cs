using Fabric.Wire.Api;

namespace Fabric.Cli.Demo;

/// <summary>
/// What the demo knows so far: written by the run, read by the screen and, at the end, by the result. Every member takes the lock;
/// lists are handed out as copies.
/// </summary>
internal sealed class DemoState
{
    private readonly Lock _gate = new();
    private readonly List<MoveRecord> _moves = [];
    private readonly List<DemoCheck> _checks = [];
    private string _stage = "starting";
    private EvacuationReport? _evacuation;

    public string Stage
    {
        get
        {
            lock (_gate)
                return _stage;
        }

        set
        {
            lock (_gate)
                _stage = value;
        }
    }

    public EvacuationReport? Evacuation
    {
        get
        {
            lock (_gate)
                return _evacuation;
        }

        set
        {
            lock (_gate)
                _evacuation = value;
        }
    }

    public IReadOnlyList<MoveRecord> Moves
    {
        get
        {
            lock (_gate)
                return [.. _moves];
        }
    }

    public IReadOnlyList<DemoCheck> Checks
    {
        get
        {
            lock (_gate)
                return [.. _checks];
        }
    }

    public void Check(string name, bool ok, string detail)
    {
        lock (_gate)
            _checks.Add(new DemoCheck(name, ok, detail));
    }

    /// <summary>Adds the move, or replaces what was known of it. The guest's clock before the move is kept.</summary>
    public void Put(MoveRecord move)
    {
        lock (_gate)
        {
            int at = _moves.FindIndex(m => m.Report.Id == move.Report.Id);
            if (at < 0)
                _moves.Add(move);
            else
                _moves[at] = move with { FromGuestMs = _moves[at].FromGuestMs };
        }
    }
}

/// <summary>A move, and the guest's own clock (milliseconds) before and after it; null while unknown.</summary>
internal sealed record MoveRecord(MigrationReport Report, long? FromGuestMs, long? ToGuestMs);
