using System.Collections.Concurrent;
using System.Net.Sockets;
using Fabric.Chaos.Rows;

namespace Fabric.Chaos.Cluster;

/// <summary>A step as a daemon says it. Rows name any control node <see cref="Step.Control"/>; <paramref name="Member"/> is the one that it is.</summary>
public sealed record SeenStep(Step Step, string Subject, string Member);

/// <summary>
/// The other end of the daemons' step gates (src/fabricd/Steps): every record of every daemon comes by here before it is written and after
/// it is durable, and waits until <see cref="OnStep"/> has returned.
/// </summary>
internal sealed class StepSocket : IAsyncDisposable
{
    private readonly Socket _listener = new(AddressFamily.Unix, SocketType.Stream, ProtocolType.Unspecified);
    private readonly CancellationTokenSource _stop = new();
    private readonly ConcurrentQueue<SeenStep> _trace = new();
    private readonly ConcurrentBag<Task> _daemons = [];
    private readonly Task _accepting;

    internal StepSocket(string path)
    {
        _listener.Bind(new UnixDomainSocketEndPoint(path));
        _listener.Listen(16);
        _accepting = AcceptAsync();
    }

    /// <summary>What a step waits for. Called by one task per daemon.</summary>
    internal Func<SeenStep, Task> OnStep { get; set; } = static _ => Task.CompletedTask;

    /// <summary>All steps since <see cref="Forget"/>, in the order in which they came here.</summary>
    internal IReadOnlyCollection<SeenStep> Trace => _trace;

    internal void Forget() => _trace.Clear();

    internal bool Saw(Step step) => _trace.Any(seen => seen.Step == step);

    public async ValueTask DisposeAsync()
    {
        await _stop.CancelAsync();
        _listener.Dispose();
        await _accepting;
        await Task.WhenAll(_daemons);
        _stop.Dispose();
    }

    private async Task AcceptAsync()
    {
        try
        {
            while (true)
                _daemons.Add(ServeAsync(await _listener.AcceptAsync(_stop.Token)));
        }
        catch (Exception end) when (end is OperationCanceledException or SocketException or ObjectDisposedException)
        {
            // The cluster goes down.
        }
    }

    private async Task ServeAsync(Socket socket)
    {
        try
        {
            await using var stream = new NetworkStream(socket, ownsSocket: true);
            using var reader = new StreamReader(stream);
            while (await reader.ReadLineAsync(_stop.Token) is { } line)
            {
                string[] words = line.Split(' ');
                string daemon = words[0].StartsWith(Step.Control, StringComparison.Ordinal) ? Step.Control : words[0];
                var seen = new SeenStep(new Step(daemon, words[1], words[2]), words[3], words[0]);
                _trace.Enqueue(seen);
                await OnStep(seen);
                await stream.WriteAsync("\n"u8.ToArray(), _stop.Token);
            }
        }
        catch (Exception end) when (end is OperationCanceledException or IOException)
        {
            // The daemon was killed, which is what this is for.
        }
    }
}
