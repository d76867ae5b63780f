using Fabric.Migration;
using Fabric.Transfer;
using Xunit;

namespace Fabric.Unit.Transfer;

/// <summary>
/// What a source knows of which pages exist when the guest stands. How it proves its claim: it counts how often the whole memory was gone over after the guest stood, and compares all of both memories in the end.
/// </summary>
public sealed class PresenceTests
{
    private const int Second = 1000;
    private const long Pages = 600; // the last hundred of them never touched by the guest

    [Theory(Timeout = 60 * Second)]
    [InlineData(HandOverKind.Complete)]
    [InlineData(HandOverKind.Pull)]
    public async Task Memory_of_which_nothing_was_given_back_is_not_gone_over_while_the_guest_stands(HandOverKind kind) =>
        Assert.Equal(0, await MoveAsync(kind, VerifyLevel.Frames, static guest => guest.GuestWrite(Pages - 5, 2))); // new since the last look

    [Theory(Timeout = 60 * Second)]
    [InlineData(HandOverKind.Complete)]
    [InlineData(HandOverKind.Pull)]
    public async Task What_was_given_back_is_looked_for(HandOverKind kind) =>
        Assert.Equal(1, await MoveAsync(kind, VerifyLevel.Frames, static guest => guest.GuestGiveBack(17)));

    /// <summary>As many pages as before, and yet not the same: harmless to the guest, but who compares all of memory would be told of a difference.</summary>
    [Theory(Timeout = 60 * Second)]
    [InlineData(HandOverKind.Complete)]
    [InlineData(HandOverKind.Pull)]
    public async Task A_count_is_not_enough_for_who_compares_all(HandOverKind kind) => Assert.Equal(1, await MoveAsync(kind, VerifyLevel.Full, static guest =>
    {
        guest.GuestGiveBack(17);
        guest.MakeByReading(Pages - 5);
    }));

    /// <summary>Moves a guest to the end and compares. How often its memory was gone over once it stood.</summary>
    /// <param name="change">What it does last.</param>
    private static async Task<int> MoveAsync(HandOverKind kind, VerifyLevel verify, Action<FakeGuest> change)
    {
        await using TransferPair pair = new(Pages, verify);
        for (long page = 0; page < Pages - 100; page++)
            pair.Source.GuestWrite(page, 1);
        await pair.ConnectAsync();
        if (kind == HandOverKind.Complete)
            await pair.Outgoing.PushRoundAsync(default);
        else
            await pair.Outgoing.PrepareFinishAsync(kind, default);
        await pair.Outgoing.PrepareFinishAsync(kind, default);
        change(pair.Source);
        int before = pair.Source.Walks;
        await pair.FinishAsync(kind);
        await pair.TokenAsync();
        if (kind == HandOverKind.Pull)
            await pair.Outgoing.ServePullAsync(default);
        await pair.Running;
        Assert.Empty(pair.Differences());
        Assert.True(pair.Incoming.Snapshot().Verified);
        return pair.Source.Walks - before;
    }
}
