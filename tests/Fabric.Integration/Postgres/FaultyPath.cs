using System.Net;
using System.Net.Sockets;

namespace Fabric.Integration.Postgres;

internal enum PathFault
{
    None,

    /// <summary>What a client says goes nowhere, on connections new and old.</summary>
    Swallow,

    /// <summary>The next thing that a client says is not passed on; its connection breaks.</summary>
    CutBefore,

    /// <summary>The next answer is not passed on; its connection breaks.</summary>
    CutAnswer,

    /// <summary>As <see cref="CutAnswer"/>, of the next answer that tells of a commit.</summary>
    CutCommitted,

    /// <summary>The next thing that a client says is passed on a third of a second late.</summary>
    Delay,
}

/// <summary>A TCP path to a server on loopback that can be made to fail. <see cref="Fault"/> is taken by the first that meets it, but for swallowing, which lasts.</summary>
internal sealed class FaultyPath : IAsyncDisposable
{
    private readonly TcpListener _listener = new(IPAddress.Loopback, 0);
    private readonly CancellationTokenSource _stop = new();
    private readonly Task _accepting;
    private readonly List<Task> _pumps = [];
    private readonly int _target;
    private int _fault;

    public FaultyPath(int target)
    {
        _target = target;
        _listener.Start();
        _accepting = AcceptAsync();
    }

    public int Port => ((IPEndPoint)_listener.LocalEndpoint).Port;

    public PathFault Fault
    {
        get => (PathFault)Volatile.Read(ref _fault);
        set => Volatile.Write(ref _fault, (int)value);
    }

    public async ValueTask DisposeAsync()
    {
        await _stop.CancelAsync();
        _listener.Stop();
        await _accepting;
        await Task.WhenAll(_pumps);
        _stop.Dispose();
    }

    private bool Take(PathFault fault) => Interlocked.CompareExchange(ref _fault, (int)PathFault.None, (int)fault) == (int)fault;

    private async Task AcceptAsync()
    {
        try
        {
            while (true)
                _pumps.Add(ServeAsync(await _listener.AcceptTcpClientAsync(_stop.Token)));
        }
        catch (Exception ended) when (ended is OperationCanceledException or SocketException or ObjectDisposedException)
        {
            // Told to stop.
        }
    }

    private async Task ServeAsync(TcpClient client)
    {
        using var near = client;
        using var far = new TcpClient { NoDelay = true };
        near.NoDelay = true;
        using var broken = CancellationTokenSource.CreateLinkedTokenSource(_stop.Token);
        try
        {
            await far.ConnectAsync(IPAddress.Loopback, _target, broken.Token);
            var forth = PumpAsync(near.GetStream(), far.GetStream(), AskedAsync, broken);
            var back = PumpAsync(far.GetStream(), near.GetStream(), AnsweredAsync, broken);
            await Task.WhenAll(forth, back);
        }
        catch (Exception ended) when (ended is OperationCanceledException or SocketException or IOException)
        {
            // Either end is gone; both are closed.
        }
    }

    private static async Task PumpAsync(NetworkStream from, NetworkStream to, Func<ReadOnlyMemory<byte>, Task<bool?>> judge, CancellationTokenSource broken)
    {
        byte[] buffer = new byte[64 * 1024];
        try
        {
            int read;
            while ((read = await from.ReadAsync(buffer, broken.Token)) > 0)
            {
                switch (await judge(buffer.AsMemory(0, read)))
                {
                    case true:
                        await to.WriteAsync(buffer.AsMemory(0, read), broken.Token);
                        break;
                    case false:
                        return;
                }
            }
        }
        finally
        {
            await broken.CancelAsync();
        }
    }

    /// <summary>True: pass on; false: break; null: swallow.</summary>
    private async Task<bool?> AskedAsync(ReadOnlyMemory<byte> asked)
    {
        if (Fault == PathFault.Swallow)
            return null;
        if (Take(PathFault.Delay))
            await Task.Delay(TimeSpan.FromMilliseconds(300), TimeProvider.System, _stop.Token);
        return !Take(PathFault.CutBefore);
    }

    private Task<bool?> AnsweredAsync(ReadOnlyMemory<byte> answer)
    {
        bool commits = answer.Span.IndexOf("COMMIT\0"u8) >= 0;
        bool cut = Take(PathFault.CutAnswer) || (commits && Take(PathFault.CutCommitted));
        return Task.FromResult<bool?>(!cut);
    }
}
