using Fabric.Core;
using Fabric.Transfer.Channels;
using Fabric.Wire.Data;

namespace Fabric.Transfer.Outgoing;

/// <summary>Work that all bulk connections share. <see cref="Run"/> is called once on each sender's thread, at the same time.</summary>
internal abstract class BulkJob
{
    private int _running;

    /// <summary>Completes when every sender is done and every barrier is on its way.</summary>
    public TaskCompletionSource<bool> Done { get; } = new(TaskCreationOptions.RunContinuationsAsynchronously);

    /// <summary>Barrier sent on every connection behind this job's frames, or 0.</summary>
    public long Barrier { get; init; }

    public abstract void Run(PageSender sender);

    internal void Begin(int workers) => Volatile.Write(ref _running, workers);

    internal void Leave()
    {
        if (Interlocked.Decrement(ref _running) == 0)
            Done.TrySetResult(true);
    }
}

/// <summary>
/// One dedicated thread per bulk connection, made once per transfer. A job is handed to all of them; while one is under way no other
/// may be given.
/// </summary>
internal sealed class BulkWorkers : IDisposable
{
    private readonly Doorbell[] _wake;
    private readonly PageSender[] _senders;
    private readonly TransferLife _life;
    private BulkJob? _job;

    public BulkWorkers(PageSender[] senders, TransferLife life, string name)
    {
        _senders = senders;
        _life = life;
        _wake = [.. senders.Select(static _ => new Doorbell())];
        for (int i = 0; i < senders.Length; i++)
        {
            int index = i;
            life.Start($"{name}-bulk{index}", () => Loop(index));
        }
    }

    public int Count => _senders.Length;

    /// <summary>Starts a job; await its <see cref="BulkJob.Done"/> before the next.</summary>
    public void Give(BulkJob job)
    {
        job.Begin(_senders.Length);
        Volatile.Write(ref _job, job);
        foreach (Doorbell wake in _wake)
            wake.Ring();
    }

    /// <summary>After the end of the threads.</summary>
    public void Dispose()
    {
        foreach (Doorbell wake in _wake)
            wake.Dispose();
    }

    private void Loop(int index)
    {
        while (true)
        {
            _wake[index].Wait(_life.Ended);
            BulkJob job = Volatile.Read(ref _job) ?? throw new InvalidOperationException("Woken without a job.");
            job.Run(_senders[index]);
            if (job.Barrier > 0)
                _senders[index].Channel.Send(FrameKind.Barrier, (ulong)job.Barrier);
            job.Leave();
        }
    }
}

/// <summary>The digests of all of memory, piece by piece. Nothing writes the memory meanwhile.</summary>
internal sealed class DigestJob(PageBitmap present) : BulkJob
{
    private long _next;

    public override void Run(PageSender sender)
    {
        while (true)
        {
            long first = Interlocked.Add(ref _next, DigestPiece.PagesPerPiece) - DigestPiece.PagesPerPiece;
            if (first >= present.Length)
                return;
            sender.SendDigests(new PageRun(first, (int)Math.Min(DigestPiece.PagesPerPiece, present.Length - first)), present);
        }
    }
}

/// <summary>
/// The pull phase's bulk: what is left, in the order that <see cref="PullSource"/> keeps. Pages are claimed as late as can be: when the link's cap lets this sender send, and no more
/// than <see cref="PullPace"/> says; no faster than the path takes without a queue (<see cref="GuardedPath"/>); and at first behind the guest (<see cref="GuestFirst"/>).
/// </summary>
/// <param name="guest">Null where wanted pages go alone, as in the literature: there bulk never stands back.</param>
internal sealed class PullJob(PullSource source, PullPace pace, GuardedPath path, GuestFirst? guest, CancellationToken ended) : BulkJob
{
    public override void Run(PageSender sender)
    {
        int unsent = 0;
        while (true)
        {
            guest?.AwaitCalm(ended);
            sender.AwaitTurn();
            if (pace.UnsentBytes is var allowed && allowed != unsent)
                sender.Channel.KeepQueueShort(unsent = allowed);
            int count = source.Claim(sender.Chunk.AsSpan(0, pace.FramePages));
            if (count == 0)
                return;
            pace.Sent(sender.SendPages(count, PageFlags.Frozen | PageFlags.Pull, 0), count);
            path.Look();
        }
    }
}
