namespace Fabric.Transfer.Channels;

/// <summary>
/// What one thread waits for: asleep in the kernel at once. The waits of the runtime that are faster look again and again for up to half a millisecond first, and this transfer's threads wait mostly while a guest
/// stands and its hypervisor needs the processor on which they would look. <see cref="Ring"/>: any thread, at any time; rung twice before it is heard is rung once. <see cref="Wait"/>: the one thread.
/// </summary>
internal sealed class Doorbell : IDisposable
{
    private readonly AutoResetEvent _bell = new(initialState: false);

    public void Ring()
    {
        try
        {
            _bell.Set();
        }
        catch (ObjectDisposedException)
        {
            // The thread has ended. Whoever still had work for it hears so from the transfer, which is over.
        }
    }

    /// <exception cref="OperationCanceledException">It is over.</exception>
    public void Wait(CancellationToken ended)
    {
        WaitHandle.WaitAny([ended.WaitHandle, _bell]);
        ended.ThrowIfCancellationRequested();
    }

    /// <summary>After the thread's end.</summary>
    public void Dispose() => _bell.Dispose();
}
