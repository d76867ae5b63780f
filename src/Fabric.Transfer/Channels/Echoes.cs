using Fabric.Wire.Data;

namespace Fabric.Transfer.Channels;

/// <summary>
/// The answers to this end's pings. The peer reads its control connection in order and acts on each frame before it reads the next: an answer says that all is done that was asked for before the ping.
/// Pinging: any thread. <see cref="Take"/>: the thread that reads the connection.
/// </summary>
internal sealed class Echoes(DataChannel control)
{
    private readonly Lock _gate = new();
    private readonly Queue<TaskCompletionSource<bool>> _awaited = new(); // one for each ping that was not answered yet; silence ends the transfer before there are many

    /// <summary>Completes with the answer; whoever waits needs a deadline.</summary>
    /// <exception cref="Core.FabricException">unreachable: the connection is broken.</exception>
    public Task<bool> Ping()
    {
        var answer = new TaskCompletionSource<bool>(TaskCreationOptions.RunContinuationsAsynchronously);
        // Under the gate: answers come in the order of the pings on the wire.
        lock (_gate)
        {
            _awaited.Enqueue(answer);
            control.Send(FrameKind.Ping);
        }

        return answer.Task;
    }

    /// <exception cref="Core.FabricException">malformed: nobody asked.</exception>
    public void Take()
    {
        TaskCompletionSource<bool>? answer;
        lock (_gate)
        {
            if (!_awaited.TryDequeue(out answer))
                throw control.Malformed("an answer to no ping");
        }

        answer.SetResult(true);
    }
}
