using System.Net;
using Fabric.Core;
using Fabric.Migration;
using Fabric.Migration.PageOrders;
using Fabric.Transfer;
using Fabric.Transfer.Incoming;
using Fabric.Transfer.Outgoing;
using Microsoft.Extensions.Logging.Abstractions;
using Xunit;

namespace Fabric.Unit.Transfer;

/// <summary>Both ends of a migration over real loopback sockets, with fake guests.</summary>
internal sealed class TransferPair : IAsyncDisposable, IIncomingHandler
{
    private readonly TaskCompletionSource<Epoch> _accepted = new(TaskCreationOptions.RunContinuationsAsynchronously);
    private readonly VerifyLevel _verify;
    private readonly int _bulk;
    private readonly bool _ownsSource;
    private IDisposable? _registration;

    public TransferPair(long pages, VerifyLevel verify = VerifyLevel.Full, int bulk = 2, TransferSettings? settings = null, PullState? pullState = null, MigrationId? migration = null, FakeGuest? source = null)
    {
        Id = migration ?? Migration;
        _verify = verify;
        _bulk = bulk;
        Settings = settings ?? new TransferSettings { SilenceDeadline = TimeSpan.FromSeconds(5), SliceMilliseconds = 50 };
        Source = source ?? new FakeGuest(pages, receives: false);
        _ownsSource = source is null;
        Destination = new FakeGuest(pages, receives: true);
        Pull = pullState ?? PullState.InMemory(Id, pages, verify == VerifyLevel.Full);
        Listener = new DataListener(new IPEndPoint(IPAddress.Loopback, 0), Settings, TimeProvider.System, NullLogger.Instance);
    }

    public static MigrationId Migration { get; } = MigrationId.Parse("0123456789abcdef0123456789abcdef");

    public MigrationId Id { get; }

    public static Ticket Ticket { get; } = new(new string('7', 64));

    public TransferSettings Settings { get; }

    public FakeGuest Source { get; }

    public FakeGuest Destination { get; }

    public PullState Pull { get; set; }

    public DataListener Listener { get; }

    public byte[] State { get; } = [.. Enumerable.Range(0, 78_000).Select(i => (byte)(i * 7))];

    public byte[]? LoadedState { get; private set; }

    public IncomingTransfer Incoming { get; private set; } = null!;

    public OutgoingTransfer Outgoing { get; private set; } = null!;

    public Task Running { get; private set; } = Task.CompletedTask;

    /// <summary>Whether the source may pack.</summary>
    public bool Pack { get; init; }

    /// <summary>In which order a pull pushes.</summary>
    public PullPlan Plan { get; init; } = PullPlan.Default;

    /// <summary>Begun before the connections are made; the source's then.</summary>
    public GuestLook? Look { get; set; }

    public Task<Epoch> Accepted => _accepted.Task;

    /// <summary>For how long the VM runs when the destination says that it does.</summary>
    public TimeSpan RunsFor { get; set; }

    /// <summary>What the destination's machine does while it loads its state, and before it accepts the token.</summary>
    public Func<Task> WhileLoading { get; set; } = () => Task.CompletedTask;

    public Func<Task> BeforeAccept { get; set; } = () => Task.CompletedTask;

    /// <summary>What the host does with the word that all is here.</summary>
    public Func<Task> WhenComplete { get; set; } = () => Task.CompletedTask;

    public DataEndpoint Endpoint => new("127.0.0.1", Listener.Endpoint.Port);

    /// <summary>The destination is there for a source that may come.</summary>
    public void Await()
    {
        Incoming = new IncomingTransfer(Destination, Id, Pull, Settings, TimeProvider.System, NullLogger.Instance);
        _registration = Listener.Register(Id, Ticket, Incoming);
        Running = Incoming.RunAsync(this, CancellationToken.None);
    }

    public async Task ConnectAsync(bool resume = false, BandwidthCap? cap = null)
    {
        Await();
        OutgoingChannels channels = await OutgoingConnector.ConnectAsync(Endpoint, Id, Ticket, _bulk, Settings, TimeProvider.System, CancellationToken.None);
        TransferTerms terms = new(Id, Source.PageSize, Source.PageCount, _bulk, _verify, Pack);
        Outgoing = new OutgoingTransfer(Source, terms, channels, cap, Settings, TimeProvider.System, NullLogger.Instance, resume, Plan, Look);
    }

    public async Task DisconnectAsync()
    {
        _registration?.Dispose();
        if (Outgoing is not null)
            await Outgoing.DisposeAsync();
        if (Incoming is not null)
        {
            await Record.ExceptionAsync(() => Running);
            await Incoming.DisposeAsync();
        }
    }

    public Task FinishAsync(HandOverKind kind) => Outgoing.FinishStoppedAsync(kind, Task.FromResult(State), CancellationToken.None);

    public Task<long> TokenAsync() => Outgoing.PassTokenAsync(new Epoch(7), CancellationToken.None);

    public async Task LoadDeviceStateAsync(ReadOnlyMemory<byte> state, HandOverKind kind, CancellationToken cancellation)
    {
        LoadedState = state.ToArray();
        await WhileLoading();
    }

    public async Task<TimeSpan> AcceptTokenAsync(Epoch epoch, CancellationToken cancellation)
    {
        await BeforeAccept();
        _accepted.TrySetResult(epoch);
        return RunsFor;
    }

    public Task CompletePullAsync(bool? verified, CancellationToken cancellation) => WhenComplete();

    /// <summary>Pages whose contents differ; looks without the guest's help.</summary>
    public List<long> Differences()
    {
        List<long> differing = [];
        for (long page = 0; page < Source.PageCount; page++)
        {
            if (Source.Peek(page) != Destination.Peek(page))
                differing.Add(page);
        }

        return differing;
    }

    public async ValueTask DisposeAsync()
    {
        await DisconnectAsync();
        await Listener.DisposeAsync();
        Pull.Trap?.Dispose();
        Pull.Dispose();
        if (_ownsSource)
            Source.Dispose();
        Destination.Dispose();
    }
}
