using System.Text.Json.Serialization;
using Fabric.Actors;
using Fabric.Cluster;
using Fabric.Core;
using Fabric.Journal;
using Fabric.Migration;
using Fabric.Supervisor.Shards;

namespace Fabric.Supervisor.Hosts;

internal abstract record HostEvent(DateTimeOffset At);

/// <summary><paramref name="Reason"/>: null when nobody gave one, and in events that are older than reasons.</summary>
internal sealed record HostCordoned(DateTimeOffset At, string? Reason = null) : HostEvent(At);

internal sealed record HostUncordoned(DateTimeOffset At) : HostEvent(At);

internal static class HostEvents
{
    public static EventCatalog<HostEvent> Catalog { get; } = new(
        ("host-cordoned", HostJson.Default.HostCordoned),
        ("host-uncordoned", HostJson.Default.HostUncordoned));
}

[JsonSourceGenerationOptions(PropertyNamingPolicy = JsonKnownNamingPolicy.SnakeCaseLower, MaxDepth = 8, RespectRequiredConstructorParameters = true)]
[JsonSerializable(typeof(HostCordoned))]
[JsonSerializable(typeof(HostUncordoned))]
internal sealed partial class HostJson : JsonSerializerContext;

internal abstract record HostMessage;
/// <summary>Nobody uses this ledger: it may end. Answered with whether it does.</summary>
internal sealed record HostRest(RestOffer Offer, IReply<bool> Reply) : HostMessage;

/// <summary>Answered with whether the host is cordoned, once that is durable. Null asks without changing it.</summary>
internal sealed record CordonAsked(bool? Cordoned, IReply<bool> Reply, string? Reason = null) : HostMessage;

/// <summary>What is durable about one host: whether new VMs may go there.</summary>
internal sealed class HostLedger(ControlServices services, ShardTenure tenure, HostName host) : Actor<HostMessage>
{
    private readonly EventStream<HostEvent> _stream = new(services.Journal, tenure, StreamOf(host), HostEvents.Catalog);
    private Cordon? _cordon;

    public const string StreamPrefix = "host/";

    public static StreamId StreamOf(HostName host) => new(StreamPrefix + host);

    protected override async ValueTask StartedAsync()
    {
        var events = await _stream.LoadAsync(Context.Stopping);
        Apply(events.Count > 0 ? CordonOf(events[^1]) : null);
    }

    protected override async ValueTask ReceiveAsync(HostMessage message)
    {
        if (message is HostRest rest)
        {
            if (rest.Offer.Answer(idle: true, rest.Reply))
                Context.Stop();
            return;
        }

        if (message is not CordonAsked asked)
            throw new InvalidOperationException($"No handler is written for {message.GetType().Name}.");
        if (asked.Cordoned is { } wanted && wanted == (_cordon is null))
        {
            HostEvent happened = wanted ? new HostCordoned(services.Now, asked.Reason) : new HostUncordoned(services.Now);
            await _stream.AppendAsync([happened], Context.Stopping);
            Apply(CordonOf(happened));
        }

        asked.Reply.Succeed(_cordon is not null);
    }

    /// <summary>What the last event of a host's stream says.</summary>
    public static Cordon? CordonOf(HostEvent last) => last is HostCordoned cordoned ? new Cordon(cordoned.At, cordoned.Reason) : null;

    private void Apply(Cordon? cordon)
    {
        _cordon = cordon;
        services.Hosts.SetCordoned(host, cordon);
        services.Board.Touch();
    }
}
