using System.Text.Json.Serialization;
using Fabric.Actors;
using Fabric.Cluster;
using Fabric.Core;
using Fabric.Journal;
using Fabric.Migration;

namespace Fabric.Supervisor.Hosts;

internal abstract record HostEvent(DateTimeOffset At);

internal sealed record HostCordoned(DateTimeOffset At) : HostEvent(At);

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

/// <summary>Answered with whether the host is cordoned, once that is durable. Null asks without changing it.</summary>
internal sealed record CordonAsked(bool? Cordoned, IReply<bool> Reply) : HostMessage;

/// <summary>What is durable about one host: whether new VMs may go there.</summary>
internal sealed class HostLedger(ControlServices services, ShardTenure tenure, HostName host) : Actor<HostMessage>
{
    private readonly EventStream<HostEvent> _stream = new(services.Journal, tenure, StreamOf(host), HostEvents.Catalog);
    private bool _cordoned;

    public const string StreamPrefix = "host/";

    public static StreamId StreamOf(HostName host) => new(StreamPrefix + host);

    protected override async ValueTask StartedAsync()
    {
        var events = await _stream.LoadAsync(Context.Stopping);
        Apply(events.Count > 0 && events[^1] is HostCordoned);
    }

    protected override async ValueTask ReceiveAsync(HostMessage message)
    {
        if (message is not CordonAsked asked)
            throw new InvalidOperationException($"No handler is written for {message.GetType().Name}.");
        if (asked.Cordoned is { } wanted && wanted != _cordoned)
        {
            await _stream.AppendAsync([wanted ? new HostCordoned(services.Now) : new HostUncordoned(services.Now)], Context.Stopping);
            Apply(wanted);
        }

        asked.Reply.Succeed(_cordoned);
    }

    private void Apply(bool cordoned)
    {
        _cordoned = cordoned;
        services.Hosts.SetCordoned(host, cordoned);
        services.Board.Touch();
    }
}
