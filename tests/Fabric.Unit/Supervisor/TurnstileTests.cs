using Fabric.Supervisor.Reading;
using Xunit;

namespace Fabric.Unit.Supervisor;

public sealed class TurnstileTests
{
    [Fact]
    public async Task One_is_in_at_a_time_in_the_order_of_asking()
    {
        var turnstile = new Turnstile();
        await turnstile.EnterAsync(default);
        var second = turnstile.EnterAsync(default);
        var third = turnstile.EnterAsync(default);
        Assert.False(second.IsCompleted);
        turnstile.Leave();
        await second;
        Assert.False(third.IsCompleted);
        turnstile.Leave();
        await third;
        turnstile.Leave();
        Assert.True(turnstile.EnterAsync(default).IsCompletedSuccessfully);
    }

    [Fact]
    public async Task Who_is_called_off_is_passed_over()
    {
        var turnstile = new Turnstile();
        await turnstile.EnterAsync(default);
        using var off = new CancellationTokenSource();
        var second = turnstile.EnterAsync(off.Token);
        var third = turnstile.EnterAsync(default);
        await off.CancelAsync();
        await Assert.ThrowsAnyAsync<OperationCanceledException>(() => second);
        Assert.False(third.IsCompleted);
        turnstile.Leave();
        await third;
        await Assert.ThrowsAnyAsync<OperationCanceledException>(() => turnstile.EnterAsync(off.Token));
    }
}
