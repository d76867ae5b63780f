using Fabric.Core;
using Fabric.Machines;
using Microsoft.Extensions.Logging;

namespace Fabric.Transfer.Outgoing;

/// <summary>
/// The beginning of the look at a guest that is pulled without a push (docs/decisions/0015-working-set.md): pages are taken out of its page table, then its writes are recorded. It takes some
/// milliseconds and needs nobody at the other end, so it goes on while the connections are made. Owned by the transfer that it is given to, else disposed by who began it.
/// </summary>
public sealed class GuestLook : IAsyncDisposable
{
    private readonly IGuestMemory _memory;
    private readonly ILogger _logger;
    private readonly CancellationTokenSource _ends = new();
    private int _disposed;

    private GuestLook(IGuestMemory memory, bool touches, ILogger logger)
    {
        (_memory, _logger) = (memory, logger);
        Present = new PageBitmap(memory.PageCount);
        Begun = Task.Run(() => Start(touches));
    }

    /// <summary>True: touches are seen as well as writes. Fails where writes cannot be recorded.</summary>
    internal Task<bool> Begun { get; }

    /// <summary>What existed when the recording had begun, once <see cref="Begun"/> has completed.</summary>
    internal PageBitmap Present { get; }

    /// <summary>The recording, once <see cref="Begun"/> has completed.</summary>
    internal IDirtyTracking? Tracking { get; private set; }

    /// <param name="memory">Its machine may end at any time; then the look fails.</param>
    /// <param name="touches">False: only writes matter.</param>
    /// <param name="logger">For what goes wrong and stops nobody.</param>
    public static GuestLook Begin(IGuestMemory memory, bool touches, ILogger logger)
    {
        ArgumentNullException.ThrowIfNull(memory);
        return new GuestLook(memory, touches, logger);
    }

    /// <summary>Ends the recording: the guest that stays, or that was handed over and is about to be removed, pays for no more.</summary>
    public async ValueTask DisposeAsync()
    {
        if (Interlocked.Exchange(ref _disposed, 1) != 0)
            return;
        await _ends.CancelAsync();
        await ((Task)Begun).ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
        _ends.Dispose();
        EndRecording(Tracking, _logger);
    }

    internal static void EndRecording(IDirtyTracking? tracking, ILogger logger)
    {
        try
        {
            tracking?.Dispose();
        }
        catch (Exception e) when (e is FabricException or ObjectDisposedException)
        {
            logger.LogDebug(e, "Dirty tracking ended with its machine");
        }
    }

    // From the recording on, what exists now and what is written until the end is all that can exist then.
    private bool Start(bool touches)
    {
        bool watched = touches && Watch();
        _ends.Token.ThrowIfCancellationRequested();
        Tracking = _memory.StartDirtyTracking();
        _memory.ReadPresence(Present);
        return watched;
    }

    private bool Watch()
    {
        try
        {
            return _memory.WatchTouches(_ends.Token);
        }
        catch (FabricException e)
        {
            _logger.LogWarning("What the guest touches cannot be watched: {Error}", e.Error);
            return false;
        }
    }
}
