using Fabric.Actors.Testing;
using Fabric.Transfer.Outgoing;
using Xunit;

namespace Fabric.Unit.Transfer;

/// <summary>When bulk stands back, on a clock that the test moves; and that it goes on although that clock stands.</summary>
public sealed class GuestFirstTests
{
    private readonly ManualTime _time = new();

    [Fact]
    public void Bulk_stands_back_while_the_guest_asks_and_for_a_tenth_of_a_second_at_most()
    {
        GuestFirst guest = new(_time);
        guest.Begin();
        Assert.True(guest.IsAsked); // it has just begun to run
        _time.Advance(GuestFirst.Calm);
        Assert.False(guest.IsAsked);
        for (var ran = GuestFirst.Calm; ran < GuestFirst.Most; ran += GuestFirst.Calm)
        {
            guest.Wanted();
            Assert.True(guest.IsAsked);
            _time.Advance(GuestFirst.Calm);
        }

        guest.Wanted();
        Assert.False(guest.IsAsked);
    }

    [Fact(Timeout = 10_000)]
    public async Task A_pull_ends_whatever_the_guest_asks_and_the_clock_says()
    {
        GuestFirst guest = new(_time);
        guest.Begin();
        await Task.Run(() => guest.AwaitCalm(default));
        Assert.True(guest.IsAsked);
        await Assert.ThrowsAsync<OperationCanceledException>(() => Task.Run(() => guest.AwaitCalm(new CancellationToken(canceled: true))));
    }
}
