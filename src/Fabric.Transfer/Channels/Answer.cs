using Fabric.Wire.Data;

namespace Fabric.Transfer.Channels;

/// <summary>
/// Something the peer says exactly once, and only after it was asked for: said twice or unasked it is a broken protocol.
/// <see cref="Expect"/> by the flow, <see cref="Say"/> by the reading thread.
/// </summary>
internal sealed class Answer<T>
{
    private readonly TaskCompletionSource<T> _source = new(TaskCreationOptions.RunContinuationsAsynchronously);
    private volatile bool _expected;

    public Task<T> Task => _source.Task;

    public void Expect() => _expected = true;

    /// <exception cref="Core.FabricException">malformed.</exception>
    public void Say(T value, DataChannel channel, FrameKind kind)
    {
        if (!_expected || !_source.TrySetResult(value))
            throw channel.Malformed($"an unexpected {kind} frame");
    }
}
