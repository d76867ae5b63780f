// Agents and the data connection between them, one small step at a time. Each step is what docs/PROTOCOL.md draws as one arrow or one ledger record, so a test may
// stop, cut or kill between any two of them.
using Fabric.Cluster;
using Fabric.Core;
using Fabric.Migration;
using Fabric.Wire.Agent;

namespace Fabric.Unit.Supervisor;

/// <summary>What is on its way between source and destination of one migration. All of it is lost with the connection.</summary>
internal sealed class ModelLink
{
    public bool Up { get; set; } = true;
    public bool ReadySaid { get; set; }
    public Epoch? Token { get; set; }
    public bool RunningSaid { get; set; }
    public bool PullDoneSaid { get; set; }

    public void Cut() => (Up, ReadySaid, Token, RunningSaid, PullDoneSaid) = (false, false, null, false, false);
}

internal sealed class ModelCluster
{
    private readonly Dictionary<MigrationId, ModelLink> _links = [];

    public Lock Gate { get; } = new();

    public Dictionary<HostName, ModelAgent> Agents { get; } = [];

    public ModelAgent Add(string name, long memoryBytes = 8L * ByteSize.Gibi)
    {
        var agent = new ModelAgent(HostName.Parse(name)) { MemoryBytes = memoryBytes };
        Agents[agent.Name] = agent;
        return agent;
    }

    public ModelLink Link(MigrationId id)
    {
        if (!_links.TryGetValue(id, out var link))
            _links[id] = link = new ModelLink();
        return link;
    }

    /// <summary>Hosts whose vCPUs of the VM run. More than one is the failure that everything is built against (I1).</summary>
    public IReadOnlyList<ModelAgent> RunningAt(VmName vm) =>
        [.. Agents.Values.Where(a => a.Vms.TryGetValue(vm, out var here) && here is { Machine: true, Running: true })];

    /// <summary>The next steps that the data plane can make, by name. Empty: it waits for a command.</summary>
    public IReadOnlyList<(string Name, Action Do)> Steps()
    {
        var steps = new List<(string, Action)>();
        foreach (var source in Agents.Values)
        {
            foreach (var vm in source.Vms.Values.Where(static vm => vm.OutgoingId is not null))
                SourceSteps(source, vm, steps);
        }

        foreach (var destination in Agents.Values)
        {
            foreach (var vm in destination.Vms.Values.Where(static vm => vm.IncomingId is not null))
                DestinationSteps(destination, vm, steps);
        }

        return steps;
    }

    /// <summary>The agent dies and comes back: its ledgers stay, its connections do not.</summary>
    public void Restart(HostName host)
    {
        var agent = Agents[host];
        foreach (var vm in agent.Vms.Values)
        {
            if (vm.OutgoingId is { } outgoing)
                CutLink(outgoing);
            if (vm.IncomingId is { } incoming)
                CutLink(incoming);
        }

        agent.Restart();
        foreach (var vm in agent.Vms.Values.Where(static vm => vm.Destination == DestinationPhase.Pulling && vm.IncomingId is not null))
            vm.Destination = DestinationPhase.PullBroken;
    }

    public void CutLink(MigrationId id)
    {
        Link(id).Cut();
        foreach (var agent in Agents.Values)
        {
            foreach (var vm in agent.Vms.Values)
            {
                if (vm.OutgoingId == id && vm.Source is SourcePhase.Pushing or SourcePhase.Converged)
                    (vm.Source, vm.Error) = (SourcePhase.PushFailed, new FabricError(ErrorCodes.Lost, "the link was cut"));
                if (vm.IncomingId == id && vm.Destination == DestinationPhase.Pulling)
                    vm.Destination = DestinationPhase.PullBroken;
            }

            agent.Touch();
        }
    }

    private void SourceSteps(ModelAgent agent, ModelVm vm, List<(string, Action)> steps)
    {
        var link = Link(vm.OutgoingId!.Value);
        switch (vm.Source)
        {
            case SourcePhase.Pushing when link.Up:
                Add("converge", () => (vm.Source, vm.Mode) = (SourcePhase.Converged, vm.Mode == MigrationMode.Auto ? MigrationMode.PreCopy : vm.Mode));
                break;
            case SourcePhase.HandingOver when !vm.Stopped:
                Add("stop", () => (vm.Running, vm.Stopped) = (false, true));
                break;
            case SourcePhase.HandingOver when !link.Up:
                Add("withdraw", () => agent.Withdraw(vm));
                break;
            case SourcePhase.HandingOver:
                Add("c2 token-sent", () => (vm.Source, vm.Owner, vm.TokenHeldBack) = (SourcePhase.TokenSent, false, true));
                break;
            case SourcePhase.TokenSent when vm.TokenHeldBack && link is { Up: true, ReadySaid: true }:
                Add("token on the wire", () => (link.Token, vm.TokenHeldBack) = (vm.SourceEpoch, false));
                break;
            case SourcePhase.TokenSent when vm.TokenHeldBack && !link.Up:
                Add("withdraw knowing", () => agent.Withdraw(vm));
                break;
            case SourcePhase.TokenSent when link is { Up: true, RunningSaid: true }:
                Add("c5 handed-over", () => vm.Source = SourcePhase.HandedOver);
                break;
            case SourcePhase.HandedOver when link is { Up: true, PullDoneSaid: true }:
                Add("drained", () => vm.Source = SourcePhase.Drained);
                break;
            default:
                break;
        }

        void Add(string name, Action action) => steps.Add((name, () =>
        {
            action();
            agent.Touch();
        }
        ));
    }

    private void DestinationSteps(ModelAgent agent, ModelVm vm, List<(string, Action)> steps)
    {
        var link = Link(vm.IncomingId!.Value);
        var source = Agents.Values.SelectMany(static a => a.Vms.Values).FirstOrDefault(other => other.OutgoingId == vm.IncomingId);
        switch (vm.Destination)
        {
            case DestinationPhase.Prepared when link.Up && source is { Stopped: true, Source: SourcePhase.HandingOver or SourcePhase.TokenSent }:
                Add("c3 ready", () => (vm.Destination, link.ReadySaid, vm.NeedsPull) = (DestinationPhase.Ready, true, source.Mode == MigrationMode.PostCopy));
                break;
            case DestinationPhase.Ready when link is { Up: true, Token: { } token }:
                Add("c4 accepted", () => (vm.Destination, vm.Owner, vm.RunEpoch, vm.DestinationEpoch, link.Token) = (DestinationPhase.TokenAccepted, true, token, token, null));
                break;
            case DestinationPhase.TokenAccepted:
                Add("running", () =>
                {
                    agent.Continue(vm);
                    if (vm.Destination == DestinationPhase.Pulling && !link.Up)
                        vm.Destination = DestinationPhase.PullBroken;
                    (link.RunningSaid, link.PullDoneSaid) = (link.Up, link.Up && !vm.NeedsPull);
                });
                break;
            case DestinationPhase.Pulling when link.Up:
                Add("pulled", () => (vm.Destination, vm.NeedsPull, link.PullDoneSaid) = (DestinationPhase.Complete, false, true));
                break;
            case DestinationPhase.PullBroken when link.Up:
                Add("pull again", () => vm.Destination = DestinationPhase.Pulling);
                break;
            default:
                break;
        }

        void Add(string name, Action action) => steps.Add((name, () =>
        {
            action();
            agent.Touch();
        }
        ));
    }

    /// <summary>A command arrives. ServePull and StartPush also make the connection.</summary>
    public CommandResult Execute(HostName host, AgentCommand command)
    {
        int before = Agents[host].Executed;
        var result = Agents[host].Execute(command);
        if (result.Ok && Agents[host].Executed > before && command is ServePull or StartPush)
            Link(command.Header.Migration!.Value).Up = true;
        return result;
    }
}

/// <summary>The model behind the gateway's contract. Runs the data plane by itself whenever somebody looks, unless a test holds it.</summary>
internal sealed class ModelGateway(ModelCluster cluster) : IAgentGateway
{
    private readonly HashSet<HostName> _silent = [];
    private volatile bool _dead;

    /// <summary>The control node that asks through this gateway is dead: nothing more of it arrives.</summary>
    public void Kill() => _dead = true;

    /// <summary>True lets the data plane make the named step; called under the cluster's gate.</summary>
    public Func<string, bool> Allow { get; set; } = static _ => true;

    /// <summary>False for a host that has not registered with the control node that asks: it has no address for it.</summary>
    public Func<HostName, bool> Knows { get; init; } = static _ => true;

    /// <summary>After a command was executed and before its answer is given; an exception loses the answer.</summary>
    public Action<HostName, AgentCommand>? AfterCommand { get; set; }

    public List<(HostName Host, AgentCommand Command)> Sent { get; } = [];

    public void Silence(HostName host, bool silent)
    {
        lock (cluster.Gate)
        {
            if (silent)
                _silent.Add(host);
            else
                _silent.Remove(host);
        }
    }

    public async Task<CommandResult> SendAsync(HostName host, AgentCommand command, CancellationToken cancellation)
    {
        await Task.Yield();
        cancellation.ThrowIfCancellationRequested();
        lock (cluster.Gate)
        {
            RequireAnswering(host);
            Sent.Add((host, command));
            var result = cluster.Execute(host, command);
            AfterCommand?.Invoke(host, command);
            return result;
        }
    }

    public async Task<HostFacts> FactsAsync(HostName host, long after, TimeSpan wait, CancellationToken cancellation)
    {
        long until = TimeProvider.System.GetTimestamp() + TimeProvider.System.GetTimestampTicks(wait);
        while (true)
        {
            lock (cluster.Gate)
            {
                RequireAnswering(host);
                if (cluster.Steps().FirstOrDefault(step => Allow(step.Name)) is { Do: { } next })
                    next();
                var facts = cluster.Agents[host].Facts();
                if (facts.Version > after || TimeProvider.System.GetTimestamp() >= until)
                    return facts;
            }

            await Task.Delay(TimeSpan.FromMilliseconds(2), TimeProvider.System, cancellation);
        }
    }

    public Task<byte[]?> ConsoleAsync(HostName host, VmName vm, long offset, int most, CancellationToken cancellation) =>
        Task.FromResult(cluster.Agents[host].Vms.ContainsKey(vm) ? "hello"u8.ToArray()[(int)Math.Min(offset, 5)..] : null);

    private void RequireAnswering(HostName host)
    {
        if (_dead || _silent.Contains(host) || !Knows(host))
            throw new FabricException(ErrorCodes.Unreachable, $"'{host}' is silent");
    }
}
