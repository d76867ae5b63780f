using Fabric.Wire.Data;

namespace Fabric.Transfer.Outgoing;

/// <summary>
/// Whether packing pays, for one sender: a byte of pages costs, as it is, the time in which the wire takes a byte; packed, the time to pack it and the wire's time for what is left of it.
/// Both are measured on the frames that are sent; what does not pay is tried again from time to time, for a small share of the time, since memory is not alike everywhere. That packing and
/// sending overlap is left out: it errs towards sending pages as they are, and so towards leaving the host's processors to its guests. On a wire that is faster than packing nothing is
/// packed; where it is slower, what is sent shrinks until the one waits for the other. One thread.
/// </summary>
internal sealed class PackingChoice
{
    /// <summary>Packing must cost at most this share of sending pages as they are.</summary>
    internal const double WorthShare = 0.9;

    /// <summary>Of the time, at most about this share goes into trials of what did not pay.</summary>
    internal const double TrialShare = 0.03;

    /// <summary>
    /// Seconds: where the wire takes longer for a byte, a page that is sent again is copied and kept, whatever packing does to its first copy, so that it can go as a difference the next time. A copy
    /// costs a few tenths of a nanosecond a byte.
    /// </summary>
    internal const double KeepSeconds = 2e-9;

    /// <summary>Bytes below which a frame says nothing of speed.</summary>
    private const long Measurable = 32 * 1024;

    private readonly Method _lz4;
    private readonly Method _zstd;
    private Mean _send = new(0.8);
    private double _expected; // seconds a byte of pages of what looked best when it was last asked

    public PackingChoice(Packings agreed)
    {
        _lz4 = new Method(Packing.Lz4, (agreed & Packings.Lz4) != Packings.None);
        _zstd = new Method(Packing.Zstd, (agreed & Packings.Zstd) != Packings.None);
    }

    /// <summary>How to send the next frame. <see cref="Packing.Stored"/>: what is a difference is worth packing, and the rest is not.</summary>
    /// <param name="pages">Bytes of its pages. Nothing is tried on a frame that would say nothing of it: the small ones are those of the stopped copy.</param>
    /// <param name="again">Its pages were sent before.</param>
    public Packing Next(long pages, bool again)
    {
        if (!_send.IsKnown)
            return Packing.None;
        double plain = _send.Value;
        double lz4 = _lz4.Cost(plain);
        double zstd = _zstd.Cost(plain);
        bool pays = Math.Min(lz4, zstd) <= plain * WorthShare;
        var best = !pays ? null : lz4 <= zstd ? _lz4 : _zstd;
        _expected = pays ? Math.Min(lz4, zstd) : plain;
        bool tells = pages >= Measurable;
        if (tells && best != _lz4 && _lz4.IsDue)
            return Packing.Lz4;
        // The slower one is not worth a trial where the faster one does not pay.
        if (tells && best != _zstd && _zstd.IsDue && (pays || !_lz4.IsUsable))
            return Packing.Zstd;
        return best?.Packing ?? (again && plain > KeepSeconds ? Packing.Stored : Packing.None);
    }

    /// <summary>A frame has left as <see cref="Next"/> said.</summary>
    /// <param name="packing">What was tried on it; that it became no smaller shows in <paramref name="wire"/>.</param>
    /// <param name="pages">Bytes of the pages that are not zero.</param>
    /// <param name="wire">Bytes that they became.</param>
    /// <param name="packSeconds">Spent in packing.</param>
    /// <param name="sendSeconds">Spent in sending, waiting for the link's cap included.</param>
    public void Sent(Packing packing, long pages, long wire, double packSeconds, double sendSeconds)
    {
        if (pages < Measurable)
            return;
        _send.Add(wire, sendSeconds);
        _lz4.Passed(packSeconds + sendSeconds);
        _zstd.Passed(packSeconds + sendSeconds);
        // What a page that is kept, or a difference, says of packing is true of its like only, but those come together.
        double more = Math.Max(packSeconds, packSeconds + sendSeconds - (_expected * pages));
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
        private Mean _seconds = new(0.5);
        private Mean _share = new(0.5);
        private double _since; // seconds since it was used
        private double _cost; // seconds that its last use took, or took longer than what looked better

        internal Packing Packing => packing;

        internal bool IsUsable => usable;

        internal bool IsDue => usable && _since * TrialShare >= _cost;

        internal double Cost(double send) => _share.IsKnown ? _seconds.Value + (_share.Value * send) : double.PositiveInfinity;

        internal void Passed(double seconds) => _since += seconds;

        internal void Used(long pages, long wire, double seconds, double cost)
        {
            _seconds.Add(pages, seconds);
            _share.Add(pages, wire);
            (_since, _cost) = (0, cost);
        }
    }
}
