using System.Buffers.Binary;

namespace Fabric.Simulation.Machines;

/// <summary>
/// The guest's program and the state of its devices. It writes its working set in page order for ever, one page a step, so that the number of steps says
/// what every page must hold: a page from another moment, lost or repeated, is found when it is next touched or all are compared.
/// <para>Pages: 0 … Working−1 are written in turn, page Working belongs to the devices (saving their state writes it), the next are constant, the rest are holes.</para>
/// </summary>
internal sealed class Guest(GuestLife life, int working, int present, double stepsPerSecond)
{
    internal const int StateBytes = 24;

    internal GuestLife Life => life;

    internal int Working => working;

    internal int Present => present;

    internal double StepsPerSecond => stepsPerSecond;

    internal long Steps { get; set; }

    internal long Saves { get; set; }

    internal int DevicePage => working;

    internal int NextPage => (int)(Steps % working);

    /// <summary>What a page holds after so many steps; 0 is a hole.</summary>
    internal long Expected(int page)
    {
        if (page >= present)
            return 0;
        if (page == DevicePage)
            return 1 + Saves;
        return page < working && Steps > page ? 1 + ((Steps - page - 1) / working) + 1 : 1;
    }

    internal byte[] Save()
    {
        byte[] state = new byte[StateBytes];
        BinaryPrimitives.WriteInt64LittleEndian(state, life.Number);
        BinaryPrimitives.WriteInt64LittleEndian(state.AsSpan(8), Steps);
        BinaryPrimitives.WriteInt64LittleEndian(state.AsSpan(16), Saves);
        return state;
    }

    internal static Guest Load(ReadOnlySpan<byte> state, IReadOnlyList<GuestLife> lives)
    {
        var life = lives[(int)BinaryPrimitives.ReadInt64LittleEndian(state)];
        return new Guest(life, life.Working, life.PresentPages, life.StepsPerSecond)
        {
            Steps = BinaryPrimitives.ReadInt64LittleEndian(state[8..]),
            Saves = BinaryPrimitives.ReadInt64LittleEndian(state[16..]),
        };
    }
}
