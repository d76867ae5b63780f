namespace Fabric.Transfer.Outgoing;

/// <summary>
/// In its first moments at the destination a guest stands at one page after the other, each a round trip. Bulk that is sent meanwhile makes each of them longer: it is ahead of the wanted page on the wire, and
/// takes processors from those who answer. So in the first tenth of a second of a pull bulk stands back while wanted pages are asked for; the wire is not idle then, what goes along with
/// a wanted page fills most of it. After that time bulk and the guest share, whatever the guest does, so that a pull always ends. <see cref="Wanted"/>: the urgent thread; <see cref="AwaitCalm"/>: the bulk senders.
/// </summary>
internal sealed class GuestFirst(TimeProvider time)
{
    /// <summary>From the begin of the pull.</summary>
    internal static readonly TimeSpan Most = TimeSpan.FromMilliseconds(100);

    /// <summary>No page was asked for in so long a time: the guest runs. Some round trips within a site; between sites a guest asks more seldom, and bulk goes on in between.</summary>
    internal static readonly TimeSpan Calm = TimeSpan.FromMilliseconds(1);

    private static readonly TimeSpan Pause = TimeSpan.FromMilliseconds(1);

    private long _began;
    private long _wanted;

    /// <summary>The guest runs at the destination. Before bulk begins.</summary>
    public void Begin() => _began = _wanted = time.GetTimestamp();

    /// <summary>The guest waits for pages.</summary>
    public void Wanted() => Volatile.Write(ref _wanted, time.GetTimestamp());

    /// <summary>Waits, in the calling thread, while the guest asks.</summary>
    /// <exception cref="OperationCanceledException">The transfer ended meanwhile.</exception>
    public void AwaitCalm(CancellationToken ended)
    {
        // Counted as well, for a clock that stands.
        for (int pauses = 0; pauses * Pause < Most && IsAsked; pauses++)
        {
            ended.WaitHandle.WaitOne(Pause);
            ended.ThrowIfCancellationRequested();
        }
    }

    internal bool IsAsked => time.GetElapsedTime(_began) < Most && time.GetElapsedTime(Volatile.Read(ref _wanted)) < Calm;
}
