using Fabric.Actors.Testing;
using Fabric.Core;
using Fabric.Host;
using Fabric.Migration;
using Fabric.Unit.Migration;
using Xunit;

namespace Fabric.Unit.Host;

/// <summary>When a poll for facts is answered: the clock stands until the test moves it, so an answer that came without that came at once.</summary>
public sealed class FactsBoardTests
{
    private static readonly TimeSpan Wait = TimeSpan.FromSeconds(10);
    private static readonly TimeSpan Patience = TimeSpan.FromSeconds(10);

    private readonly ManualTime _time = new(Samples.Now);

    [Fact]
    public async Task A_phase_is_said_at_once_and_takes_the_numbers_along()
    {
        var (board, version) = await PushingAsync();
        var poll = board.WaitAsync(version, Wait, CancellationToken.None);
        board.Publish(Samples.Vm, Fact(SourcePhase.Pushing, 2));
        Assert.False(poll.IsCompleted);
        board.Publish(Samples.Vm, Fact(SourcePhase.Converged, 3));
        var (_, facts) = await poll.WaitAsync(Patience);
        Assert.Equal(Fact(SourcePhase.Converged, 3), Assert.Single(facts));
    }

    [Fact]
    public async Task Numbers_alone_are_said_when_the_poll_has_lasted_a_while()
    {
        var (board, version) = await PushingAsync();
        var poll = board.WaitAsync(version, Wait, CancellationToken.None);
        board.Publish(Samples.Vm, Fact(SourcePhase.Pushing, 2));
        board.Publish(Samples.Vm, Fact(SourcePhase.Pushing, 3));
        Assert.False(poll.IsCompleted);
        _time.Advance(FactsBoard.NumbersPeriod);
        var (now, facts) = await poll.WaitAsync(Patience);
        Assert.Equal(version + 2, now);
        Assert.Equal(3, Assert.Single(facts).Outgoing!.Stats.Rounds);
    }

    /// <summary>The destination says that it is complete, and a moment later how many faults there were in all.</summary>
    [Fact]
    public async Task The_last_numbers_of_a_migration_are_said_at_once()
    {
        var board = new FactsBoard(_time);
        board.Publish(Samples.Vm, Arrived(1));
        var (version, _) = await board.WaitAsync(0, Wait, CancellationToken.None).WaitAsync(Patience);
        var poll = board.WaitAsync(version, Wait, CancellationToken.None);
        board.Publish(Samples.Vm, Arrived(2));
        var (_, facts) = await poll.WaitAsync(Patience);
        Assert.Equal(2, Assert.Single(facts).Incoming!.Stats.NetworkFaults);

        static VmFact Arrived(long faults) => new(
            Samples.Spec, new Epoch(5), Owner: true, VmRunState.Running, null, null,
            new DestinationFact(Samples.Plan.Id, DestinationPhase.Complete, new Epoch(5), new MigrationStats { NetworkFaults = faults }));
    }

    [Fact]
    public async Task A_poll_that_will_not_wait_gets_the_numbers_that_there_are()
    {
        var (board, version) = await PushingAsync();
        board.Publish(Samples.Vm, Fact(SourcePhase.Pushing, 2));
        var (now, facts) = await board.WaitAsync(version, TimeSpan.Zero, CancellationToken.None).WaitAsync(Patience);
        Assert.Equal((version + 1, 2), (now, Assert.Single(facts).Outgoing!.Stats.Rounds));
    }

    /// <summary>Two steps of a hand-over are not worth an answer while the guest stands; its end is, and so is a hand-over that does not come to one.</summary>
    [Theory]
    [InlineData(true)]
    [InlineData(false)]
    public async Task Steps_of_a_hand_over_wait_for_its_end_but_not_for_long(bool ends)
    {
        var (board, version) = await PushingAsync();
        var poll = board.WaitAsync(version, Wait, CancellationToken.None);
        board.Publish(Samples.Vm, Fact(SourcePhase.HandingOver, 2));
        _time.Advance(FactsBoard.FleetingPeriod / 2);
        board.Publish(Samples.Vm, Fact(SourcePhase.TokenSent, 2) with { Owner = false, State = VmRunState.Paused });
        Assert.False(poll.IsCompleted);
        if (ends)
            board.Publish(Samples.Vm, Fact(SourcePhase.HandedOver, 2) with { Owner = false, State = VmRunState.Paused });
        else
            _time.Advance(FactsBoard.FleetingPeriod / 2);
        var (now, facts) = await poll.WaitAsync(Patience);
        Assert.Equal(ends ? SourcePhase.HandedOver : SourcePhase.TokenSent, Assert.Single(facts).Outgoing!.Phase);

        // Who has heard it is not told again.
        var next = board.WaitAsync(now, Wait, CancellationToken.None);
        _time.Advance(FactsBoard.FleetingPeriod * 2);
        Assert.False(next.IsCompleted);
    }

    [Fact]
    public async Task A_machine_that_ends_in_a_hand_over_is_said_at_once()
    {
        var (board, version) = await PushingAsync();
        var poll = board.WaitAsync(version, Wait, CancellationToken.None);
        board.Publish(Samples.Vm, Fact(SourcePhase.HandingOver, 2));
        board.Publish(Samples.Vm, Fact(SourcePhase.HandingOver, 2) with { State = VmRunState.Exited });
        var (_, facts) = await poll.WaitAsync(Patience);
        Assert.Equal(VmRunState.Exited, Assert.Single(facts).State);
    }

    private async Task<(FactsBoard Board, long Version)> PushingAsync()
    {
        var board = new FactsBoard(_time);
        board.Publish(Samples.Vm, Fact(SourcePhase.Pushing, 1));
        var (version, _) = await board.WaitAsync(0, Wait, CancellationToken.None).WaitAsync(Patience);
        return (board, version);
    }

    private static VmFact Fact(SourcePhase phase, int rounds) => new(
        Samples.Spec, new Epoch(4), Owner: true, VmRunState.Running, null,
        new SourceFact(Samples.Plan.Id, phase, new Epoch(5), MigrationMode.PreCopy, new MigrationStats { Rounds = rounds }), null);

    /// <summary>Timers count whole milliseconds. A wait of less that ends at once would ask the clock again and again until it has moved: the clock counts how often it is asked.</summary>
    [Fact]
    public async Task A_wait_of_less_than_a_millisecond_waits()
    {
        var time = new ManualTime();
        var clock = new AskedClock(time);
        var board = new FactsBoard(clock);
        var answer = board.WaitAsync(1, TimeSpan.FromMicroseconds(300), CancellationToken.None);
        Assert.False(answer.IsCompleted);
        Assert.InRange(clock.Asked, 1, 4);
        await time.AdvanceAsync(TimeSpan.FromMilliseconds(1));
        Assert.Equal(1, (await answer.WaitAsync(TimeSpan.FromSeconds(10))).Version);
    }

    private sealed class AskedClock(ManualTime time) : TimeProvider
    {
        internal int Asked { get; private set; }

        public override long TimestampFrequency => time.TimestampFrequency;

        public override long GetTimestamp() => ++Asked < 100 ? time.GetTimestamp() : throw new InvalidOperationException("The clock is asked again and again.");

        public override ITimer CreateTimer(TimerCallback callback, object? state, TimeSpan dueTime, TimeSpan period) => time.CreateTimer(callback, state, dueTime, period);
    }
}
