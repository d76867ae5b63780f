using Fabric.Actors;
using Fabric.Actors.Testing;
using Fabric.Cluster;
using Fabric.Core;
using Fabric.Journal;
using Fabric.Migration;
using Fabric.Supervisor;
using Fabric.Wire.Agent;
using Microsoft.Extensions.Logging.Abstractions;

namespace Fabric.Unit.Supervisor;

/// <summary>Supervisors on one thread and a clock that stands until it is moved, over a journal in memory. Agents never answer.</summary>
internal sealed class OneThread
{
    private static readonly TimeSpan Held = TimeSpan.FromHours(1);

    internal OneThread()
    {
        Loop = new DeterministicDispatcher(1, Time) { MaxSteps = 10_000 };
        Actors = new ActorSystem(Time, new Random(1), Loop, NullLoggerFactory.Instance);
        Board = new Board(Time, TimeSpan.Zero);
        Services = new ControlServices(
            Journal, new SilentAgents(), new HostRegistry(Time), Board, new MovementGate(Board), new IdSource(Time, new Random(2)), Time, NullLoggerFactory.Instance, SupervisorOptions.Default);
        Loop.Run(
            async () =>
            {
                var (lease, _) = await Journal.AcquireAsync(new ShardId(0), "node", Held, Epoch.None, CancellationToken.None);
                Tenure = new ShardTenure(lease!, Time.GetTimestamp(), Time);
            },
            TimeSpan.FromSeconds(1));
    }

    internal ManualTime Time { get; } = new();

    internal DeterministicDispatcher Loop { get; }

    internal MemoryJournal Journal { get; } = new();

    internal ActorSystem Actors { get; }

    internal Board Board { get; }

    internal ControlServices Services { get; }

    internal ShardTenure Tenure { get; private set; } = null!;

    /// <summary>Writes to a stream as an actor of this node would.</summary>
    internal void Append<TEvent>(StreamId stream, EventCatalog<TEvent> catalog, params TEvent[] events)
        where TEvent : class =>
        Loop.Run(() => new EventStream<TEvent>(Journal, Tenure, stream, catalog).AppendAsync(events, CancellationToken.None), TimeSpan.FromSeconds(1));

    /// <summary>A host that answers and has room.</summary>
    internal void Show(HostName host) =>
        Board.Publish(host, new HostLevel(new HostFacts(host, new Guid(1, 2, 3, new byte[8]), 1, new DataEndpoint("127.0.0.1", 7000), ByteSize.Gibi, []), null));

    private sealed class SilentAgents : IAgentGateway
    {
        public Task<CommandResult> SendAsync(HostName host, AgentCommand command, CancellationToken cancellation) => NeverAsync<CommandResult>(cancellation);

        public Task<HostFacts> FactsAsync(HostName host, long after, TimeSpan wait, CancellationToken cancellation) => NeverAsync<HostFacts>(cancellation);

        public Task<byte[]?> ConsoleAsync(HostName host, VmName vm, long offset, int most, CancellationToken cancellation) => NeverAsync<byte[]?>(cancellation);

        private static Task<T> NeverAsync<T>(CancellationToken cancellation) => new TaskCompletionSource<T>().Task.WaitAsync(cancellation);
    }
}
