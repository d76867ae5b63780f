using Fabric.Wire.Data;

namespace Fabric.Transfer.Outgoing;

/// <summary>
/// Whether packing pays, for one sender. While a frame is packed the wire carries the one before it, so packing does not add to the wire's time: it shortens it, as long as the sender keeps ahead of the wire.
/// What it costs is the host's processors, which its guests could use. So for each way to pack three means are kept of the frames that were sent: what it leaves of a byte (r), the time to pack a byte (p), and
/// the time in which one leaves (s, all of a sender's time over what it put on the wire, if it spent enough of it in sending: that is the wire's pace). A way to pack is open while p is at most <see cref="AheadShare"/> of s,
/// and it pays if r·s and a part of p for the processor's time, <see cref="ProcessorShare"/>, are together less than s. The cheapest is taken; what is not taken is tried again from time to time, for a small share of the time,
/// since memory is not alike everywhere. Where packing takes next to nothing beside s all is packed: memory that packs lies in patches of a few pages, which trials find too late. One thread.
/// </summary>
internal sealed class PackingChoice
{
    /// <summary>Beyond, the wire would wait for the packing, with frames of unlike speed.</summary>
    internal const double AheadShare = 0.5;

    /// <summary>Seconds of the wire that a second of the processor is worth: a migration is over sooner, and has busied the hosts less.</summary>
    internal const double ProcessorShare = 0.25;

    /// <summary>Packing must cost at most this share of sending pages as they are.</summary>
    internal const double WorthShare = 0.95;

    /// <summary>Packing that takes at most this share of <c>s</c> is done without asking whether it pays.</summary>
    internal const double FreeShare = 0.1;

    /// <summary>Of the time, at most about this share goes into trials of what did not pay.</summary>
    internal const double TrialShare = 0.03;

    /// <summary>A sample of packing counts at most as so many times the mean: a thread that was put off in the middle says nothing of packing.</summary>
    internal const double MostBeyond = 4;

    /// <summary>
    /// Seconds: where a byte takes no longer to leave, nothing is packed nor tried, since the processors at both ends are what the wire waits for. Where it takes longer, a page that is sent again is copied
    /// and kept, whatever packing does to its first copy, so that it can go as a difference the next time: a copy costs a few tenths of a nanosecond a byte.
    /// </summary>
    internal const double WideSeconds = 2e-9;

    /// <summary>Bytes below which a frame says nothing of speed.</summary>
    private const long Measurable = 32 * 1024;

    /// <summary>What a mean keeps of itself when a frame is added: it is one of the last ten frames.</summary>
    private const double Fade = 0.9;

    private readonly Method _lz4;
    private readonly Method _zstd;
    private Mean _all = new(Fade);
    private Mean _send = new(Fade);
    private double _expected; // seconds of the wire for a byte of pages, by what looked best when it was last asked

    public PackingChoice(Packings agreed)
    {
        _lz4 = new Method(Packing.Lz4, (agreed & Packings.Lz4) != Packings.None);
        _zstd = new Method(Packing.Zstd, (agreed & Packings.Zstd) != Packings.None);
    }

    // Who spends more time in packing than in sending knows of the wire only that it is not slower than that.
    private double Leaves => Math.Min(_all.Value, 2 * _send.Value);

    /// <summary>How to send the next frame. <see cref="Packing.Stored"/>: what is a difference is worth packing, and the rest is not.</summary>
    /// <param name="pages">Bytes of its pages. Nothing is tried on a frame that would say nothing of it: the small ones are those of the stopped copy.</param>
    /// <param name="again">Its pages were sent before.</param>
    public Packing Next(long pages, bool again)
    {
        if (!_send.IsKnown)
            return Packing.None;
        double leaves = Leaves;
        _expected = leaves;
        if (leaves <= WideSeconds)
            return Packing.None;
        double lz4 = _lz4.Cost(leaves);
        double zstd = _zstd.Cost(leaves);
        bool pays = Math.Min(lz4, zstd) <= leaves * WorthShare;
        var best = !pays ? null : lz4 < zstd ? _lz4 : _zstd;
        if (pays)
            _expected = Math.Min(lz4, zstd);
        if (pages >= Measurable)
        {
            if (best != _lz4 && _lz4.IsDue(leaves))
                return Packing.Lz4;
            // The slower one is not worth a trial where the faster one is too slow.
            if (best != _zstd && _zstd.IsDue(leaves) && (!_lz4.IsUsable || _lz4.KeepsAhead(leaves)))
                return Packing.Zstd;
        }

        return best?.Packing ?? (again ? Packing.Stored : Packing.None);
    }

    /// <summary>A frame has left as <see cref="Next"/> said.</summary>
    /// <param name="packing">What was tried on it; that it became no smaller shows in <paramref name="wire"/>.</param>
    /// <param name="pages">Bytes of the pages that are not zero.</param>
    /// <param name="wire">Bytes that they became.</param>
    /// <param name="packSeconds">Spent in reading and packing.</param>
    /// <param name="sendSeconds">Spent in sending, waiting for the link's cap included.</param>
    public void Sent(Packing packing, long pages, long wire, double packSeconds, double sendSeconds)
    {
        if (pages < Measurable)
            return;
        double all = packSeconds + sendSeconds;
        _all.Add(wire, all);
        _send.Add(wire, sendSeconds);
        _lz4.Passed(all);
        _zstd.Passed(all);
        // What a page that is kept, or a difference, says of packing is true of its like only, but those come together.
        double more = (Leaves * wire) - (_expected * pages);
        if (packing == Packing.Lz4)
            _lz4.Used(pages, wire, packSeconds, more);
        else if (packing == Packing.Zstd)
            _zstd.Used(pages, wire, packSeconds, more);
    }

    /// <summary>An amount for each byte, over the last few frames.</summary>
    private struct Mean(double fade)
    {
        private double _sum;
        private double _bytes;

        internal readonly bool IsKnown => _bytes > 0;

        internal readonly double Value => _sum / _bytes;

        internal void Add(double bytes, double amount)
        {
            _bytes = (_bytes * fade) + bytes;
            _sum = (_sum * fade) + amount;
        }
    }

    private sealed class Method(Packing packing, bool usable)
    {
        private Mean _seconds = new(Fade);
        private Mean _share = new(Fade);
        private double _since; // seconds since it was used
        private double _cost; // seconds that its last use took, of the processor or of the wire

        internal Packing Packing => packing;

        internal bool IsUsable => usable;

        /// <summary>The farther it is behind the wire, the rarer: memory that packs a little faster would change nothing.</summary>
        internal bool IsDue(double leaves)
        {
            double behind = _seconds.IsKnown ? Math.Max(1, Behind(leaves)) : 1;
            return usable && _since * TrialShare >= _cost * behind;
        }

        internal bool KeepsAhead(double leaves) => _seconds.IsKnown && Behind(leaves) <= 1;

        // At most 1: it is open.
        private double Behind(double leaves) => _seconds.Value / (AheadShare * leaves);

        /// <summary>Of a byte, in seconds of the wire; never more than is worth it where packing is free, and without end where it does not keep ahead.</summary>
        internal double Cost(double leaves)
        {
            if (!KeepsAhead(leaves))
                return double.PositiveInfinity;
            double cost = (_share.Value * leaves) + (ProcessorShare * _seconds.Value);
            return _seconds.Value > FreeShare * leaves ? cost : Math.Min(cost, WorthShare * leaves);
        }

        internal void Passed(double seconds) => _since += seconds;

        /// <param name="more">Seconds that the wire needs more for it than for what looked best.</param>
        internal void Used(long pages, long wire, double seconds, double more)
        {
            double counted = _seconds.IsKnown ? Math.Min(seconds, MostBeyond * _seconds.Value * pages) : seconds;
            _seconds.Add(pages, counted);
            _share.Add(pages, wire);
            (_since, _cost) = (0, Math.Max(counted, more));
        }
    }
}
