using Fabric.Core;
using Fabric.Machines;
using Fabric.Transfer.Channels;

namespace Fabric.Transfer.Incoming;

/// <summary>
/// Pages come through the memory's file, so a guest that begins to run here would fault at its first touch of each of them: thousands of faults in its first milliseconds. While the push goes on
/// the thread that will serve faults maps what has come, woken at each barrier. It is called off when the guest is about to stand, and is over before the device state is loaded.
/// <see cref="Wake"/>, <see cref="Stop"/>: any thread; <see cref="Run"/>: the thread; <see cref="EndAsync"/>: the flow.
/// </summary>
internal sealed class AheadMap(IGuestMemory memory, PushBooks books, TransferLife life) : IDisposable
{
    /// <summary>Less is not worth a registration, least of all when the guest stands already.</summary>
    private const int Least = 256;

    private readonly Lock _busy = new(); // held while it maps
    private readonly Doorbell _barrier = new();
    private readonly CancellationTokenSource _off = new();
    private readonly TaskCompletionSource<bool> _ended = new(TaskCreationOptions.RunContinuationsAsynchronously);

    public void Wake() => _barrier.Ring();

    public void Run()
    {
        try
        {
            PageBitmap mapped = new(memory.PageCount);
            PageBitmap fresh = new(memory.PageCount);
            using var either = CancellationTokenSource.CreateLinkedTokenSource(_off.Token, life.Ended);
            while (true)
            {
                _barrier.Wait(either.Token);
                lock (_busy)
                    Map(fresh, mapped, either.Token);
            }
        }
        catch (OperationCanceledException)
        {
            // Called off, or the transfer is over.
        }
        finally
        {
            _ended.TrySetResult(true);
        }
    }

    /// <summary>Maps no more, from a piece of some milliseconds on: the guest is about to stand, and what it waits for then needs the processors. Any thread.</summary>
    public void Stop() => _off.Cancel();

    /// <summary>Completes when nothing is being mapped any more: mostly at once. The guest stands meanwhile, so a thread that is asleep is not waited for.</summary>
    public Task<bool> EndAsync()
    {
        Stop();
        if (!_busy.TryEnter())
            return _ended.Task;
        _busy.Exit();
        return Task.FromResult(true);
    }

    /// <summary>After the thread's end.</summary>
    public void Dispose()
    {
        _barrier.Dispose();
        _off.Dispose();
    }

    private void Map(PageBitmap fresh, PageBitmap mapped, CancellationToken cancellation)
    {
        if (cancellation.IsCancellationRequested)
            return;
        books.CopyFilled(fresh);
        fresh.AndNot(mapped);
        if (fresh.CountSet() < Least)
            return;
        memory.MapAhead(fresh, cancellation);
        // A page that is punched out and comes again is not mapped again: it costs the guest one fault.
        mapped.Or(fresh);
    }
}
