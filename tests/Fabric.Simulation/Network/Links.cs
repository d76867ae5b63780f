using Fabric.Simulation.Worlds;

namespace Fabric.Simulation.Network;

/// <summary>Which messages get from where to where, and when. Places are names of hosts and nodes; each direction is a link of its own.</summary>
internal sealed class Links(World world)
{
    private readonly Dictionary<(string From, string To), TimeSpan> _cutUntil = [];

    /// <summary>Share of messages that are lost, doubled, or late by up to seconds.</summary>
    internal double Loss { get; set; }

    internal double Doubling { get; set; }

    internal double Lateness { get; set; }

    /// <summary>Connections that look after themselves when a link is cut.</summary>
    internal List<Connection> Watching { get; } = [];

    internal bool Disturbed => Loss > 0 || Lateness > 0;

    internal bool IsCut(string from, string to) => _cutUntil.GetValueOrDefault((from, to)) > world.Now;

    internal void Cut(string from, string to, TimeSpan forTime)
    {
        _cutUntil[(from, to)] = world.Now + forTime;
        foreach (var connection in Watching)
            connection.OnCut(from, to);
    }

    internal void Heal()
    {
        _cutUntil.Clear();
        (Loss, Doubling, Lateness) = (0, 0, 0);
    }

    /// <summary>
    /// A message of the control network. It may be lost without a word, come late, and with <paramref name="mayDouble"/> come twice, long after.
    /// </summary>
    internal void Send(string from, string to, Action arrive, bool mayDouble = false)
    {
        var chance = world.Chance;
        var delay = Delay();
        if (IsCut(from, to))
        {
            // The kernel repeats what was not acknowledged: a short cut is a delay, a long one a loss.
            var healed = _cutUntil[(from, to)] - world.Now;
            if (healed > TimeSpan.FromSeconds(5) || chance.Share(0.5))
                return;
            delay += healed;
        }

        if (chance.Share(Loss))
            return;
        world.After(delay, arrive);
        if (mayDouble && chance.Share(Doubling))
            world.After(delay + chance.Milliseconds(1, 8000), arrive);
    }

    internal TimeSpan Delay() => world.Chance.Share(Lateness) ? world.Chance.Milliseconds(5, 9000) : world.Chance.Milliseconds(0.1, 1.5);
}
