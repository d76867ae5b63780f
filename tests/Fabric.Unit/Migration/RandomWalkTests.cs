// The brain against the model of two agents under everything that may go wrong: lost, repeated and late commands, stale facts, agents killed between any two steps, cut links,
// newborn supervisors, silent hosts. After every single step: the VM's vCPUs run in at most one place (I1) and epochs only grow (I5). Then the
// faults stop, and the migration must end within a bound (I8) with the VM running in exactly one place, unless it was lost with its pages.
using Fabric.Core;
using Fabric.Migration;
using Fabric.Unit.Supervisor;
using Xunit;
using static Fabric.Unit.Migration.Samples;

namespace Fabric.Unit.Migration;

public sealed class RandomWalkTests
{
    [Theory]
    [InlineData(MigrationMode.PreCopy)]
    [InlineData(MigrationMode.PostCopy)]
    [InlineData(MigrationMode.Auto)]
    public void Never_two_owners_and_always_an_end(MigrationMode mode)
    {
        var ends = new Dictionary<string, int>();
        for (int seed = 0; seed < 3_000; seed++)
        {
            var walk = new Walk(seed, mode, Brain.Decide);
            walk.Run();
            ends[walk.State.Name] = ends.GetValueOrDefault(walk.State.Name) + 1;
        }

        // The walk is worth something only if it really comes to the interesting ends.
        Assert.True(ends.GetValueOrDefault("completed") > 300 && ends.GetValueOrDefault("failed") > 100, string.Join(", ", ends));
    }

    [Fact]
    public void A_brain_that_takes_back_on_a_timeout_is_caught()
    {
        // The planted bug: no word of the destination is waited for once the outcome is unknown for long.
        Decision Planted(MigrationState state, Observation seen, MigrationTimings timings) =>
            state is TokenSent sent && seen.Now - sent.Since > timings.TokenOutcome
                ? Decision.Write(new TakeBackIntended(seen.Now, sent.Plan.TakeBackEpoch, sent.Plan.TokenEpoch, Error))
                : Brain.Decide(state, seen, timings);

        Assert.ThrowsAny<Xunit.Sdk.XunitException>(() =>
        {
            for (int seed = 0; seed < 3_000; seed++)
                new Walk(seed, MigrationMode.PostCopy, Planted).Run();
        });
    }

    private sealed class Walk
    {
        private readonly int _seed;
        private readonly Random _random;
        private readonly Func<MigrationState, Observation, MigrationTimings, Decision> _decide;
        private readonly ModelCluster _cluster = new();
        private readonly Dictionary<MigrationStep, StepAnswer> _answers = [];
        private readonly List<StepOrder> _late = [];
        private readonly Dictionary<HostName, HostView> _views = [];
        private readonly List<string> _trail = [];
        private DateTimeOffset _now = Now;
        private string? _abort;
        private Epoch _shard = new(1);
        private Epoch _lastOwnerEpoch = new(4);

        public Walk(int seed, MigrationMode mode, Func<MigrationState, Observation, MigrationTimings, Decision> decide)
        {
            (_seed, _random, _decide) = (seed, new Random(seed), decide);
            var source = _cluster.Add("alpha");
            _cluster.Add("beta");
            source.Vms[Vm] = new ModelVm(Spec) { Owner = true, Running = true, RunEpoch = new Epoch(4) };
            var plan = Plan with { Options = Plan.Options with { Mode = mode } };
            State = Transitions.Apply(Unborn.Instance, new MigrationPlanned(_now, plan)).State!;
            Look(Source);
            Look(Destination);
        }

        public MigrationState State { get; private set; }

        public void Run()
        {
            for (int i = 0; i < 120 && State is ActiveState; i++)
            {
                Disturb();
                Check();
            }

            _late.Clear();
            _abort = null;
            int rounds = 0;
            while (State is ActiveState)
            {
                Look(Source);
                Look(Destination);
                Supervise(loss: 0);
                Check();
                if (_cluster.Steps() is [var step, ..])
                    step.Do();
                Check();
                _now = _now.AddMilliseconds(300);
                Assert.True(++rounds < 2_000, $"seed {_seed} does not end: {State.Name}; {Trail}");
            }

            while (_cluster.Steps() is [var rest, ..])
            {
                rest.Do();
                Check();
            }

            if (State is not Lost)
                Assert.True(_cluster.RunningAt(Vm).Count == 1, $"seed {_seed}: runs at {_cluster.RunningAt(Vm).Count} hosts after {State.Name}; {Trail}");
            if (State is TerminalState end and not Lost)
                Assert.Equal(end.Owner, _cluster.RunningAt(Vm)[0].Name);
        }

        private void Disturb()
        {
            // A third of the walks is wild, the others calmer, so that faults also strike late.
            int dice = _random.Next(20 + (_seed % 3 * 60));
            switch (dice < 20 ? dice : dice % 15)
            {
                case < 7:
                    var steps = _cluster.Steps();
                    if (steps.Count > 0)
                        Do(steps[_random.Next(steps.Count)]);
                    break;
                case < 10:
                    Look(_random.Next(2) == 0 ? Source : Destination);
                    break;
                case < 15:
                    Supervise(loss: 0.3);
                    break;
                case 15:
                    Do(("restart", () => _cluster.Restart(_random.Next(2) == 0 ? Source : Destination)));
                    break;
                case 16:
                    Do(("cut", () => _cluster.CutLink(Plan.Id)));
                    break;
                case 17:
                    // Another supervisor: it knows the journal, nothing else, and its shard epoch is higher. What the old one sent may still arrive.
                    _answers.Clear();
                    _shard = _shard.Next;
                    break;
                case 18:
                    if (_late.Count > 0)
                    {
                        var late = _late[_random.Next(_late.Count)];
                        Do(($"late {late.Step}", () => _cluster.Execute(late.Host, late.Command)));
                    }

                    if (_random.Next(4) == 0)
                        _abort = "enough";
                    break;
                default:
                    Silence(_random.Next(2) == 0 ? Source : Destination);
                    break;
            }

            _now = _now.AddMilliseconds(_random.Next(8) == 0 ? 5_000 : 20);
        }

        private void Supervise(double loss)
        {
            for (int i = 0; i < 8 && State is ActiveState active; i++)
            {
                var seen = new Observation(_now, _shard, _views[Source], _views[Destination], _answers, _abort);
                var decision = _decide(State, seen, MigrationTimings.Default);
                Assert.True(decision.Events.Count == 0 || decision.Orders.Count == 0, "a decision either writes or sends");
                if (decision.Events.Count > 0)
                {
                    var (next, error) = Transitions.Replay(State, decision.Events);
                    Assert.True(error is null, $"seed {_seed}: {error}; {Trail}");
                    _trail.Add($"{active.Name}→{next!.Name}");
                    State = next;
                    continue;
                }

                foreach (var order in decision.Orders)
                    Send(order, loss);
                return;
            }
        }

        private void Send(StepOrder order, double loss)
        {
            _late.Add(order);
            if (_random.NextDouble() < loss || _views[order.Host].UnreachableSince is not null)
                return; // the command is lost, or late
            var result = _cluster.Execute(order.Host, order.Command);
            _trail.Add($"{order.Step}#{order.Attempt}:{(result.Ok ? "ok" : result.Error!.Code)}");
            if (_random.NextDouble() < loss)
                return; // the answer is lost
            _answers[order.Step] = new StepAnswer(order.Attempt, result.Error, _now);
        }

        private void Look(HostName host)
        {
            var facts = _cluster.Agents[host].Facts();
            _views[host] = new HostView(facts.Incarnation, facts.Data, facts.Vms.FirstOrDefault(static vm => vm.Name == Vm), null, _now);
        }

        private void Silence(HostName host) => _views[host] = _views[host] with { UnreachableSince = _views[host].UnreachableSince ?? _now };

        private void Do((string Name, Action Do) step)
        {
            _trail.Add(step.Name);
            step.Do();
        }

        private void Check()
        {
            var running = _cluster.RunningAt(Vm);
            Assert.True(running.Count <= 1, $"seed {_seed}: the VM runs at {string.Join(" and ", running.Select(static a => a.Name))}; {Trail}");
            var owners = _cluster.Agents.Values.SelectMany(static a => a.Vms.Values).Where(static vm => vm.Owner).ToList();
            Assert.True(owners.Count <= 1, $"seed {_seed}: two ledgers own the VM; {Trail}");
            if (owners.Count == 1)
            {
                Assert.True(owners[0].RunEpoch >= _lastOwnerEpoch, $"seed {_seed}: the epoch fell from {_lastOwnerEpoch} to {owners[0].RunEpoch}; {Trail}");
                _lastOwnerEpoch = owners[0].RunEpoch;
            }
        }

        private string Trail => string.Join(' ', _trail);
    }
}
