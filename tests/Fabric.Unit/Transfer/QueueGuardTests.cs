using System.Net;
using System.Net.Sockets;
using Fabric.Actors.Testing;
using Fabric.Native;
using Fabric.Transfer.Outgoing;
using Xunit;

namespace Fabric.Unit.Transfer;

/// <summary>
/// The guard on a model of a path: one queue that is served at the path's rate, filled by a connection that sends as fast as it is let, which without a limit holds a standing queue as TCP does. What
/// counts is the queue that a wanted page would find, and how much of the path was used.
/// </summary>
public sealed class QueueGuardTests
{
    private const double Gigabit = 117e6;

    [Theory]
    [InlineData(Gigabit, 0)]
    [InlineData(Gigabit / 2, 256 * 1024)] // behind a token bucket that lets a burst pass
    [InlineData(Gigabit / 10, 0)]
    [InlineData(Gigabit * 10, 0)]
    public void A_path_is_used_without_a_queue(double rate, int bucket)
    {
        Path path = new(rate, bucket);
        path.Run(seconds: 0.2);
        path.Begin();
        path.Run(seconds: 2);
        Assert.InRange(path.UsedShare, 0.9, 1.0);
        Assert.InRange(path.MedianQueueSeconds, 0, 0.0005);
    }

    [Fact]
    public void Without_the_guard_the_model_has_the_queue_that_is_to_be_avoided()
    {
        Path path = new(Gigabit, 0) { Guarded = false };
        path.Run(seconds: 1);
        Assert.InRange(path.MedianQueueSeconds, 0.0015, 0.01);
    }

    [Theory]
    [InlineData(Gigabit / 4, Gigabit, 1, 1.5)]
    [InlineData(Gigabit / 10, Gigabit * 4, 0.3, 0.9)]
    public void A_path_that_becomes_wider_is_found(double narrow, double wide, double before, double within)
    {
        Path path = new(narrow, 0);
        path.Run(seconds: before);
        path.Rate = wide;
        path.Run(seconds: within);
        path.Begin();
        path.Run(seconds: 1);
        Assert.InRange(path.UsedShare, 0.9, 1.0);
    }

    [Fact]
    public void A_path_that_becomes_narrower_is_not_flooded()
    {
        Path path = new(Gigabit, 0);
        path.Run(seconds: 1);
        path.Rate = Gigabit / 4;
        path.Run(seconds: 0.2);
        path.Begin();
        path.Run(seconds: 1);
        Assert.InRange(path.UsedShare, 0.85, 1.0);
        Assert.InRange(path.MedianQueueSeconds, 0, 0.001);
    }

    /// <summary>What the guest wants has the way, and what it no longer wants is bulk's at once: a limit that had to grow by its own steps would need a second for it.</summary>
    [Fact]
    public void What_the_urgent_connection_leaves_is_used_at_once()
    {
        Path path = new(Gigabit, 0) { UrgentRate = Gigabit * 0.7 };
        path.Run(seconds: 0.2);
        path.Begin();
        path.Run(seconds: 0.5);
        Assert.InRange(path.UsedShare, 0.9, 1.0);
        Assert.InRange(path.MedianQueueSeconds, 0, 0.001);
        path.UrgentRate = 0;
        path.Run(seconds: 0.05);
        path.Begin();
        path.Run(seconds: 0.1);
        Assert.InRange(path.UsedShare, 0.9, 1.0);
    }

    /// <summary>Two senders, of which one waits for a processor: in a queue on the wire both would stand.</summary>
    [Fact]
    public void A_queue_in_which_not_all_stand_is_none()
    {
        var time = new ManualTime();
        QueueGuard guard = new(connections: 2, time);
        TimeSpan shortest = TimeSpan.FromMicroseconds(60);
        long limit = 0;
        for (int window = 0; window < 100; window++)
        {
            time.Advance(QueueGuard.Window);
            PathReading late = new(TimeSpan.FromMilliseconds(10), shortest, TimeSpan.FromMilliseconds(1), 500_000L * window);
            PathReading prompt = new(TimeSpan.FromMicroseconds(80), shortest, TimeSpan.FromMicroseconds(20), 500_000L * window);
            Assert.Equal(0, guard.Look([late, prompt], 0));
        }

        for (int window = 100; window < 102; window++)
        {
            time.Advance(QueueGuard.Window);
            PathReading both = new(TimeSpan.FromMilliseconds(10), shortest, TimeSpan.FromMilliseconds(1), 500_000L * window);
            limit = guard.Look([both, both], 0);
        }

        Assert.InRange(limit, 1, 100_000_000);
    }

    /// <summary>On a fast path all connections alike may wait so long for processors; on a slower one nothing but a queue takes it.</summary>
    [Theory]
    [InlineData(Gigabit, true)]
    [InlineData(Gigabit * 10, false)]
    public void What_is_a_queue_on_a_slow_path_is_none_on_a_fast_one(double rate, bool limited)
    {
        var time = new ManualTime();
        QueueGuard guard = new(connections: 2, time);
        long limit = 0;
        for (int window = 0; window < 10; window++)
        {
            time.Advance(QueueGuard.Window);
            PathReading path = new(TimeSpan.FromMicroseconds(800), TimeSpan.FromMicroseconds(10), TimeSpan.FromMicroseconds(80), (long)(window * rate / 2 * QueueGuard.Window.TotalSeconds));
            limit = guard.Look([path, path], 0);
        }

        Assert.Equal(limited, limit > 0);
    }

    [Fact]
    public void Only_a_slow_connection_that_is_held_back_sends_in_small_bursts()
    {
        Assert.Equal(0, QueueGuard.BurstAt(0));
        Assert.InRange(QueueGuard.BurstAt((long)Gigabit / 2), 4096, 32 * 1024);
        Assert.Equal(0, QueueGuard.BurstAt((long)Gigabit * 5));
    }

    [Fact]
    public void A_queue_of_others_does_not_starve_the_connection()
    {
        Path path = new(Gigabit, 0) { OthersQueueBytes = 1_000_000 };
        path.Run(seconds: 0.5);
        path.Begin();
        path.Run(seconds: 3);
        Assert.InRange(path.UsedShare, 0.85, 1.0);
    }

    /// <summary>Both ends on a busy machine: acknowledgements come late, but what is sent in between passes at once.</summary>
    [Theory]
    [InlineData(0.5)]
    [InlineData(0.9)]
    [InlineData(0.96)]
    public void A_wait_for_processors_is_not_taken_for_a_queue(double share)
    {
        Path path = new(Gigabit * 10, 0) { BusyShare = share };
        path.Run(seconds: 1);
        Assert.Equal(0, path.Limit);
    }

    /// <summary>A queue once, and then a path that is never full: the limit grows until it is none, and not beyond all measure.</summary>
    [Fact]
    public void A_limit_that_nothing_reaches_is_lifted()
    {
        var time = new ManualTime();
        QueueGuard guard = new(connections: 1, time);
        List<long> limits = [];
        for (int window = 0; window < 1000; window++)
        {
            time.Advance(QueueGuard.Window);
            double trip = window is > 2 and < 6 ? 0.01 : 60e-6;
            limits.Add(guard.Look([new PathReading(TimeSpan.FromSeconds(trip), TimeSpan.FromSeconds(60e-6), TimeSpan.FromSeconds(20e-6), 500_000L * window)], 0));
        }

        Assert.Equal(0, limits[^1]);
        Assert.InRange(limits.Max(), 100_000_000, 100_000_000_000);
    }

    /// <summary>The real kernel: the numbers of a loopback connection, and that a limit holds.</summary>
    [Fact]
    public async Task The_kernel_tells_of_a_path_and_keeps_to_a_limit()
    {
        using Socket listener = new(AddressFamily.InterNetwork, SocketType.Stream, ProtocolType.Tcp);
        listener.Bind(new IPEndPoint(IPAddress.Loopback, 0));
        listener.Listen();
        using Socket sender = new(AddressFamily.InterNetwork, SocketType.Stream, ProtocolType.Tcp);
        await sender.ConnectAsync(listener.LocalEndPoint!);
        using Socket receiver = await listener.AcceptAsync();
        int descriptor = (int)sender.SafeHandle.DangerousGetHandle();
        SocketIo.PaceAtMost(descriptor, 20_000_000);
        byte[] data = new byte[4_000_000];
        long began = System.Diagnostics.Stopwatch.GetTimestamp();
        Task send = sender.SendAsync(data);
        byte[] buffer = new byte[65536];
        for (int received = 0; received < data.Length;)
            received += await receiver.ReceiveAsync(buffer);
        await send;
        double seconds = System.Diagnostics.Stopwatch.GetElapsedTime(began).TotalSeconds;
        Assert.True(seconds > 0.15, $"4 MB at 20 MB/s took {seconds} s");
        Assert.True(SocketIo.TryReadPath(descriptor, out PathReading path));
        Assert.InRange(path.DeliveredBytes, data.Length / 2, data.Length + 1);
        Assert.InRange(path.ShortestRoundTrip, TimeSpan.FromMicroseconds(1), path.RoundTrip + TimeSpan.FromSeconds(1));
        Assert.InRange(path.RoundTripDeviation, TimeSpan.FromMicroseconds(1), TimeSpan.FromSeconds(1));
    }

    private sealed class Path : TimeProvider
    {
        private const double Step = 50e-6;
        private const double BaseSeconds = 60e-6;
        private const double StandingBytes = 300_000;
        private const double BusySpell = 0.01;
        private readonly QueueGuard _guard;
        private readonly int _bucket;
        private readonly List<double> _queues = [];
        private long _ticks;
        private double _queue;
        private double _tokens;
        private double _delivered; // of bulk
        private double _urgentSent;
        private double _urgentQueue; // of the queue
        private double _smoothed = BaseSeconds;
        private double _deviation;
        private double _stoodFor; // in seconds, what was under way when both ends last lost their processors
        private double _stoodBytes;
        private double _began; // bytes of both
        private long _beganTicks;

        public Path(double rate, int bucket)
        {
            (Rate, _bucket, _tokens) = (rate, bucket, bucket);
            _guard = new QueueGuard(connections: 1, this);
        }

        public double Rate { get; set; }

        public bool Guarded { get; init; } = true;

        public double OthersQueueBytes { get; init; }

        /// <summary>What the urgent connection sends, in bytes a second.</summary>
        public double UrgentRate { get; set; }

        /// <summary>Of the time, in spells of <see cref="BusySpell"/> seconds, neither end has a processor.</summary>
        public double BusyShare { get; init; }

        /// <summary>Bytes a second; 0: none.</summary>
        public double Limit { get; private set; }

        public double UsedShare => (Passed - _began) / ((_ticks - _beganTicks) / 1e7 * Rate);

        public double MedianQueueSeconds => _queues.Order().ElementAt(_queues.Count / 2);

        private double Passed => _delivered + _urgentSent - _urgentQueue;

        public override long TimestampFrequency => 10_000_000;

        public override long GetTimestamp() => _ticks;

        public void Begin()
        {
            (_began, _beganTicks) = (Passed, _ticks);
            _queues.Clear();
        }

        public void Run(double seconds)
        {
            for (double done = 0; done < seconds; done += Step)
            {
                _ticks += (long)(Step * 1e7);
                bool busy = _ticks / 1e7 % BusySpell < BusyShare * BusySpell;
                double room = Math.Max(0, StandingBytes - _queue);
                if (!busy)
                    Fill(Limit > 0 ? Math.Min(Limit * Step, room) : room);
                _tokens = Math.Min(_bucket, _tokens + (Rate * Step));
                double served = busy ? 0 : Math.Min(_queue, _bucket > 0 ? _tokens : Rate * Step);
                _tokens -= served;
                Serve(served);
                Sample(busy, served);
                _queues.Add(_queue / Rate);
                if (!Guarded || !_guard.IsDue)
                    continue;
                Limit = _guard.Look([new PathReading(TimeSpan.FromSeconds(_smoothed), TimeSpan.FromSeconds(BaseSeconds), TimeSpan.FromSeconds(_deviation), (long)_delivered)], (long)_urgentSent);
            }
        }

        private void Fill(double bulk)
        {
            _queue += bulk + (UrgentRate * Step);
            _urgentSent += UrgentRate * Step;
            _urgentQueue += UrgentRate * Step;
        }

        // Both wait in one queue, mixed.
        private void Serve(double bytes)
        {
            double urgent = _queue > 0 ? bytes * _urgentQueue / _queue : 0;
            _queue -= bytes;
            _urgentQueue -= urgent;
            _delivered += bytes - urgent;
        }

        // As the kernel does (RFC 6298), with a sample in every step in which something arrives.
        private void Sample(bool busy, double served)
        {
            if (busy)
                (_stoodFor, _stoodBytes) = (_stoodFor + Step, _queue);
            if (served <= 0)
                return;
            double difference = BaseSeconds + ((_queue + OthersQueueBytes) / Rate) + _stoodFor - _smoothed;
            _smoothed += difference / 8;
            _deviation += (Math.Abs(difference) - _deviation) / 4;
            _stoodBytes -= served;
            if (_stoodBytes <= 0)
                _stoodFor = 0;
        }
    }
}
