using Fabric.Actors;
using Fabric.Core;
using Fabric.Supervisor.Vms;
using Fabric.Wire.Agent;

namespace Fabric.Supervisor.Hosts;

internal abstract record WatcherMessage;

/// <param name="Facts">The answer.</param>
/// <param name="AskedAt">When the host was asked.</param>
internal sealed record FactsCame(HostFacts Facts, DateTimeOffset AskedAt) : WatcherMessage;

internal sealed record FactsMissed(FabricError Error) : WatcherMessage;

/// <summary>Ask now: the pause after a miss is over, or the agent registered anew.</summary>
internal sealed record AskNow : WatcherMessage
{
    public static AskNow Instance { get; } = new();
}

/// <summary>Another life of the agent registered: what the poll under way was asked for does not hold for it.</summary>
internal sealed record AgentReborn(Guid Incarnation) : WatcherMessage;

/// <summary>
/// Follows one host: long-polls its facts and publishes them as the host's level. A host is unreachable after a number of polls missed in a row, and reachable again
/// with the first facts that come; until then its last facts stand, marked with the time of the first miss.
/// </summary>
/// <param name="leftOver">Called with a VM of which the host shows something that is over; at each answer, so it may be forgotten.</param>
internal sealed class HostWatcher(ControlServices services, HostName host, Action<VmName, HostName> leftOver) : Actor<WatcherMessage>
{
    private HostFacts? _facts;
    private DateTimeOffset? _firstMiss;
    private DateTimeOffset? _answersSince;
    private int _misses;
    private bool _asking;
    private IDisposable? _pause;
    private CancellationTokenSource? _poll;

    protected override ValueTask StoppingAsync()
    {
        _poll?.Dispose();
        return ValueTask.CompletedTask;
    }

    protected override ValueTask StartedAsync()
    {
        Ask();
        return ValueTask.CompletedTask;
    }

    protected override ValueTask ReceiveAsync(WatcherMessage message)
    {
        switch (message)
        {
            case FactsCame came:
                _asking = false;
                Take(came.Facts, came.AskedAt);
                Ask();
                break;
            case FactsMissed:
                _asking = false;
                Miss();
                _pause = Context.TellAfter(services.Ids.Jitter(services.Options.PollRetry), AskNow.Instance);
                break;
            case AskNow:
                Ask();
                break;
            case AgentReborn reborn when reborn.Incarnation != _facts?.Incarnation:
                _poll?.Cancel(); // ends as a miss, and the next poll asks for everything
                Ask();
                break;
            case AgentReborn:
                break;
            default:
                throw new InvalidOperationException($"No handler is written for {message.GetType().Name}.");
        }

        return ValueTask.CompletedTask;
    }

    private void Take(HostFacts facts, DateTimeOffset askedAt)
    {
        bool news = _facts is null || _firstMiss is not null || facts.Incarnation != _facts.Incarnation || facts.Version != _facts.Version;
        if (_facts is null || _misses >= services.Options.MissedPolls)
            _answersSince = services.Now;
        facts = facts.Sharing(_facts);
        _facts = facts;
        _firstMiss = null;
        _misses = 0;
        services.Hosts.Seen(host);
        var level = new HostLevel(facts, null, _answersSince, askedAt);
        if (news)
            services.Board.Publish(host, level);
        else
            services.Board.Confirm(host, level);
        foreach (var vm in facts.Vms)
        {
            if (Leftovers.At(services.Board, host, vm) is not null)
                leftOver(vm.Name, host);
        }
    }

    private void Miss()
    {
        _firstMiss ??= services.Now;
        if (++_misses == services.Options.MissedPolls)
            services.Board.Publish(host, new HostLevel(_facts, _firstMiss));
    }

    private void Ask()
    {
        if (_asking)
            return;
        _pause?.Dispose();
        _asking = true;
        // The first poll of a life, and the first after a miss, is answered at once: what is true now matters more than what changes next.
        bool atOnce = _facts is null || _misses > 0;
        long after = _facts?.Version ?? 0;
        var askedAt = services.Now;
        _poll?.Dispose();
        var poll = _poll = CancellationTokenSource.CreateLinkedTokenSource(Context.Stopping);
        Context.PipeToSelf(
            _ => services.Agents.FactsAsync(host, atOnce ? 0 : after, atOnce ? TimeSpan.Zero : services.Options.FactsWait, poll.Token),
            facts => (WatcherMessage)new FactsCame(facts, askedAt),
            error => new FactsMissed(error));
    }
}
