using Fabric.Core;
using Fabric.Machines.Guests;
using Fabric.Wire.Api;

namespace Fabric.Cli.Demo;

/// <summary>
/// Follows the serial lines of all guests at once by polling, across moves.
/// <para>
/// The API answers from the host where a VM is; while it changes hosts an offset may be taken at the wrong one. So a piece of text counts only
/// when the next listing still names the host that the piece was asked from; otherwise it is dropped, and reading goes on in
/// the new host's log, from where it was left if the guest had been there before.
/// </para>
/// One task polls; <see cref="Look"/> may be called by any.
/// </summary>
internal sealed class GuestConsoles(ControlClient client, TimeProvider time, IReadOnlyList<VmName> guests)
{
    private static readonly TimeSpan Period = TimeSpan.FromMilliseconds(250);

    private readonly Lock _gate = new();
    private readonly Dictionary<VmName, Follower> _followers = guests.ToDictionary(g => g, _ => new Follower()); // contents under _gate
    private TaskCompletionSource _changed = new(TaskCreationOptions.RunContinuationsAsynchronously); // under _gate

    public T Look<T>(VmName guest, Func<HeartbeatLog, T> look)
    {
        lock (_gate)
            return look(_followers[guest].Log);
    }

    /// <summary>Polls until cancelled. A control node that does not answer for a moment is asked again.</summary>
    public async Task FollowAsync(CancellationToken cancellation)
    {
        while (true)
        {
            try
            {
                await PollAsync(cancellation);
            }
            catch (FabricException)
            {
                // What the guests say meanwhile is in the log and is read later; the waits on it have deadlines.
            }

            await Task.Delay(Period, time, cancellation);
        }
    }

    /// <exception cref="FabricException">deadline-exceeded, saying what was waited for.</exception>
    public async Task WaitAsync(VmName guest, Func<HeartbeatLog, bool> condition, string what, TimeSpan within, CancellationToken cancellation)
    {
        using var deadline = new CancellationTokenSource(within, time);
        using var either = CancellationTokenSource.CreateLinkedTokenSource(cancellation, deadline.Token);
        try
        {
            while (true)
            {
                Task next;
                lock (_gate)
                {
                    if (condition(_followers[guest].Log))
                        return;
                    next = _changed.Task;
                }

                await next.WaitAsync(either.Token);
            }
        }
        catch (OperationCanceledException) when (!cancellation.IsCancellationRequested)
        {
            throw new FabricException(ErrorCodes.DeadlineExceeded, $"Guest '{guest}' did not {what} within {within.TotalSeconds:0} s.", Look(guest, LastWords));
        }
    }

    private static string LastWords(HeartbeatLog log) => log.ErrorLines.Count > 0
        ? $"It said: {Label.Shorten(log.ErrorLines[^1])}"
        : $"Ready: {log.IsReady}, beats: {log.Beats.Count}.";

    private async Task PollAsync(CancellationToken cancellation)
    {
        var vms = (await client.VmsAsync(cancellation)).ToDictionary(v => v.Name);
        foreach (var (guest, follower) in _followers)
        {
            if (!vms.TryGetValue(guest, out var vm) || vm.Host is not { } host)
                continue;
            Settle(follower, host);
            try
            {
                long offset = follower.Offsets.GetValueOrDefault(host);
                var chunk = await client.ConsoleAsync(guest, offset, cancellation);
                if (chunk.Text.Length > 0 && chunk.Offset == offset)
                    follower.Pending = chunk;
            }
            catch (FabricException)
            {
                // In the middle of a move neither host may have it; the next round asks again.
            }
        }

        TaskCompletionSource changed;
        lock (_gate)
            (changed, _changed) = (_changed, new TaskCompletionSource(TaskCreationOptions.RunContinuationsAsynchronously));
        changed.SetResult();
    }

    private void Settle(Follower follower, HostName host)
    {
        lock (_gate)
        {
            if (follower.Host == host && follower.Pending is { } text)
            {
                follower.Log.Append(text.Text);
                follower.Offsets[host] = text.NextOffset;
            }

            follower.Host = host;
            follower.Pending = null;
        }
    }

    private sealed class Follower
    {
        public HeartbeatLog Log { get; } = new();

        public HostName? Host { get; set; }

        public Dictionary<HostName, long> Offsets { get; } = [];

        public ConsoleChunk? Pending { get; set; }
    }
}
