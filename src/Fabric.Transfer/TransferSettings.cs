using System.Collections.Frozen;
using Fabric.Core;
using Fabric.Migration;

namespace Fabric.Transfer;

/// <summary>Deadlines and sizes of the data plane. The defaults suit a data centre; tests shorten the deadlines.</summary>
public sealed record TransferSettings
{
    public static TransferSettings Default { get; } = new();

    /// <summary>A connection that has not said hello by then is closed.</summary>
    public TimeSpan HelloDeadline { get; init; } = TimeSpan.FromSeconds(5);

    /// <summary>For making one connection, its hello included.</summary>
    public TimeSpan ConnectDeadline { get; init; } = TimeSpan.FromSeconds(5);

    /// <summary>From a frame's first byte to its last, in either direction.</summary>
    public TimeSpan FrameDeadline { get; init; } = TimeSpan.FromSeconds(30);

    /// <summary>The source says so much on the control connection, the destination answers it.</summary>
    public TimeSpan PingInterval { get; init; } = TimeSpan.FromSeconds(1);

    /// <summary>A peer that said nothing on the control connection for so long is unreachable.</summary>
    public TimeSpan SilenceDeadline { get; init; } = TimeSpan.FromSeconds(10);

    /// <summary>For one answer of the peer: terms, a barrier after the last byte was sent, Running after the token.</summary>
    public TimeSpan AnswerDeadline { get; init; } = TimeSpan.FromSeconds(30);

    /// <summary>From Finish to Ready: the destination verifies and loads the device state.</summary>
    public TimeSpan ReadyDeadline { get; init; } = TimeSpan.FromSeconds(60);

    /// <summary>How long a blocking socket call waits before it looks at the clock; milliseconds.</summary>
    public int SliceMilliseconds { get; init; } = 250;

    /// <summary>
    /// Pages of a bulk frame while pushing, 1 to <see cref="Limits.PagesPerFrame"/>. 256 KiB: a frame is hashed and sent, or received and compared,
    /// while it is in a core's cache.
    /// </summary>
    public int PushFramePages { get; init; } = 64;

    /// <summary>Pages of a bulk frame while pulling, at most: where the wire is slow, fewer, so that a wanted page that is on its way already is there soon.</summary>
    public int PullFramePages { get; init; } = 64;

    /// <summary>Memory at the source for copies of pages that are sent again and again, in bytes; at most a quarter of the guest's is used.</summary>
    public long DeltaCacheBytes { get; init; } = 128 * 1024 * 1024;

    /// <summary>Socket buffers of a bulk connection in bytes; 0 leaves it to the kernel.</summary>
    public int BulkBufferBytes { get; init; } = 1024 * 1024;

    /// <summary>
    /// The receive buffer of a bulk connection between two ends on one host, and, where there are several such connections, what each may have on its way (<see cref="Channels.DataChannel.KeepLittleUnderWay"/>); bytes, 0: no such limit. No wire has to be kept busy there, and what is on its way lies in the processors' caches: the
    /// receiver finds it there as long as it is little.
    /// </summary>
    public int OneHostBufferBytes { get; init; } = 128 * 1024;

    /// <summary>Bytes that a bulk connection may hold back in the kernel while pulling, at most.</summary>
    public int PullUnsentBytes { get; init; } = 256 * 1024;

    /// <summary>
    /// For pushing what a post-copy guest uses before it stops, and what else there is; one more look, of 25 ms at most, comes after it. What was not pushed by then is pulled: the total time of a migration whose
    /// guest writes all of it meanwhile grows by no more than this.
    /// </summary>
    public TimeSpan WorkingSetTime { get; init; } = TimeSpan.FromMilliseconds(125);

    /// <summary>Page orders under which a wanted page goes alone, as in the literature: to measure against. None in production.</summary>
    public FrozenSet<PageOrder> WithoutReadAhead { get; init; } = [];

    /// <summary>Whether more goes than what is asked for: around a wanted page, and before the guest of a pull stops.</summary>
    public bool ReadsAhead(PageOrder order) => !WithoutReadAhead.Contains(order);
}
