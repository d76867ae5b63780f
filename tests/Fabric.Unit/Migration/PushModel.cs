using Fabric.Actors.Testing;
using Fabric.Core;
using Fabric.Migration;
using Fabric.Transfer.Outgoing;

namespace Fabric.Unit.Migration;

/// <summary>How a push of the model ended. <paramref name="Seconds"/>: all of it, the stop and the pull included.</summary>
internal sealed record ModelEnd(ConvergenceDecision Decision, double Seconds, double DowntimeMs, long Sent, int Rounds, int CpuPercent);

/// <summary>
/// A push against a guest that is a list of pages it writes, in steps of 10 ms: the decisions and the windows are the real ones, the wire carries exactly its rate, and rounds send, skip and
/// hold back pages by the rules at the head of OutgoingTransfer.Push.cs.
/// </summary>
/// <param name="pages">The guest's memory; all of it exists.</param>
/// <param name="pagesPerSecond">The wire.</param>
/// <param name="writes">What the guest writes: from the seconds since it began to write, and of the pages that it would write in a step at full speed, which.</param>
internal sealed class PushModel(int pages, double pagesPerSecond, Func<double, IEnumerable<int>> writes)
{
    internal const double StepSeconds = 0.01;
    private const double FixedStopMs = 8;
    private static readonly TimeSpan StepTime = TimeSpan.FromSeconds(StepSeconds);
    private static readonly TimeSpan ScanCost = TimeSpan.FromMicroseconds(500);

    private readonly ManualTime _time = new();
    private readonly PageBitmap _written = new(pages);
    private readonly PageBitmap _found = new(pages);
    private readonly PageBitmap _dirty = new(pages);
    private readonly PageBitmap _sending = new(pages);
    private readonly List<long> _previous = [];
    private double _elapsed;
    private double _credit;
    private long _sent;
    private int _percent = 100;
    private bool _held;
    private double _guestClock;

    internal ModelEnd Run(MigrationMode mode, int maxDowntimeMs, bool canThrottle, int mostRounds = 200)
    {
        var windows = new DirtyWindows(pages, _time);
        _sending.SetAll();
        if (mode == MigrationMode.PostCopy)
            return End(Convergence.Decide(Input(mode, maxDowntimeMs, windows, 0, 0, 0, canThrottle)), 0);
        for (int round = 1; ; round++)
        {
            double began = _elapsed;
            var decision = SendRound(mode, maxDowntimeMs, windows, round);
            Scan(windows, -1, null);
            double seconds = Math.Max(_elapsed - began, 1e-6);
            long dirty = _dirty.CountSet();
            decision ??= Convergence.Decide(Input(mode, maxDowntimeMs, windows, round, 0, dirty / seconds, canThrottle));
            _previous.Add(dirty);
            switch (decision)
            {
                case ConvergenceDecision.Throttle slower:
                    _percent = slower.CpuPercent;
                    _previous.Clear();
                    break;
                case ConvergenceDecision.AnotherRound:
                    break;
                default:
                    return End(decision, round);
            }

            if (round >= mostRounds)
                throw new InvalidOperationException($"{mostRounds} rounds and no end: {decision.Reason}");
            ChooseRound(windows);
        }
    }

    private ConvergenceDecision? SendRound(MigrationMode mode, int maxDowntimeMs, DirtyWindows windows, int round)
    {
        bool holds = round == 1 || _sending.CountSet() / pagesPerSecond > 2 * DirtyWindows.Least.TotalSeconds;
        double began = _elapsed;
        double next = began + windows.Pause.TotalSeconds;
        long cursor = 0;
        while (cursor >= 0)
        {
            for (_credit += pagesPerSecond * StepSeconds; _credit >= 1 && cursor >= 0; _credit--)
            {
                cursor = _sending.NextSet(cursor);
                if (cursor < 0)
                    break;
                cursor++;
                _sent++;
            }

            _credit = Math.Min(_credit, 1);
            Step();
            if (_elapsed < next || cursor < 0)
                continue;
            Scan(windows, cursor, holds ? windows.Hot : null);
            long left = 0;
            for (long page = _sending.NextSet(cursor); page >= 0; page = _sending.NextSet(page + 1))
                left++;
            if (Convergence.BreakOff(Input(mode, maxDowntimeMs, windows, round - 1, left, 0, canThrottle: false)) is { } verdict)
            {
                for (long page = _sending.NextSet(cursor); page >= 0; page = _sending.NextSet(page + 1))
                    _dirty[page] = true;
                return verdict;
            }

            next = _elapsed + windows.Pause.TotalSeconds;
        }

        // The round lingers until its guest is known anew.
        for (int steps = 0; _held && (_elapsed - began < 2 * DirtyWindows.Least.TotalSeconds || steps % 10 != 0); steps++)
        {
            Step();
            if (steps % 10 == 9)
                Scan(windows, -1, null);
        }

        return null;
    }

    private void ChooseRound(DirtyWindows windows)
    {
        _sending.CopyFrom(_dirty);
        _dirty.Clear();
        _held = false;
        if (_sending.CountSet() / pagesPerSecond <= 2 * DirtyWindows.Least.TotalSeconds)
            return;
        _dirty.CopyFrom(_sending);
        _dirty.And(windows.Hot);
        _sending.AndNot(windows.Hot);
        _held = !_dirty.IsEmpty;
    }

    private void Step()
    {
        _elapsed += StepSeconds;
        _guestClock += StepSeconds * _percent / 100;
        _time.Advance(StepTime);
        while (_guestClock >= StepSeconds)
        {
            _guestClock -= StepSeconds;
            foreach (int page in writes(_elapsed))
                _written[page] = true;
        }
    }

    private void Scan(DirtyWindows windows, long cursor, PageBitmap? hot)
    {
        _found.CopyFrom(_written);
        _written.Clear();
        windows.Add(_found, ScanCost);
        for (long page = _found.NextSet(0); page >= 0; page = _found.NextSet(page + 1))
        {
            bool toCome = cursor >= 0 && page >= cursor && _sending[page];
            if (toCome && hot?[page] != true)
                continue;
            if (toCome)
                _sending[page] = false;
            _dirty[page] = true;
        }
    }

    private ConvergenceInput Input(MigrationMode mode, int maxDowntimeMs, DirtyWindows windows, int round, long left, double dirtyRate, bool canThrottle)
    {
        const double Page = VmSpec.PageSize;
        return new ConvergenceInput(
            mode, round, _dirty.CountSet() * VmSpec.PageSize, pagesPerSecond * Page, dirtyRate * Page, [.. _previous.Select(p => p * VmSpec.PageSize)], maxDowntimeMs, FixedStopMs,
            TimeSpan.FromSeconds(_elapsed), _sent * VmSpec.PageSize, left * VmSpec.PageSize, windows.HotPages * VmSpec.PageSize, windows.FreshPagesPerSecond * Page,
            (long)pages * VmSpec.PageSize, _percent, canThrottle, windows.WrittenPages * VmSpec.PageSize);
    }

    private ModelEnd End(ConvergenceDecision decision, int rounds)
    {
        long left = rounds == 0 ? pages : _dirty.CountSet();
        double copySeconds = left / pagesPerSecond;
        return decision switch
        {
            ConvergenceDecision.SwitchOver { To: MigrationMode.PreCopy } => new ModelEnd(decision, _elapsed + (FixedStopMs / 1000) + copySeconds, FixedStopMs + (copySeconds * 1000), _sent + left, rounds, _percent),
            ConvergenceDecision.SwitchOver => new ModelEnd(decision, _elapsed + (FixedStopMs / 1000) + copySeconds, FixedStopMs, _sent + left, rounds, _percent),
            _ => new ModelEnd(decision, _elapsed, 0, _sent, rounds, _percent),
        };
    }
}
