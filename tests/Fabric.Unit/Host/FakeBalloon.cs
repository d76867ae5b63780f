using System.Buffers.Binary;
using Fabric.Core;
using Fabric.Machines;

namespace Fabric.Unit.Host;

/// <summary>A guest with a balloon driver that follows at once, as far as it can. All numbers are the test's to change.</summary>
/// <param name="full">Bytes of the machine.</param>
/// <param name="wouldBeFree">Bytes that are free while the balloon is empty.</param>
/// <param name="reported">The time of the guest's last report at each query: a report that was seen is no news.</param>
internal sealed class FakeBalloon(long full, long wouldBeFree, Func<DateTimeOffset> reported) : IBalloon
{
    private readonly Lock _lock = new();
    private readonly List<long> _orders = [];
    private readonly long _full = full;

    internal long Actual { get; set; } = full;

    internal long WouldBeFree { get; set; } = wouldBeFree;

    /// <summary>The guest gives no more than to this.</summary>
    internal long Least { get; init; }

    internal long MajorFaults { get; set; }

    internal bool Promises { get; set; } = true;

    internal bool Speaks { get; set; } = true;

    /// <summary>Nothing is answered until the caller gives up.</summary>
    internal bool Hangs { get; set; }

    /// <summary>Orders are refused; questions are answered.</summary>
    internal bool Refuses { get; set; }

    internal int Queries { get; private set; }

    /// <summary>What the device was told last, which it keeps over a move.</summary>
    internal long Target { get; private set; } = full;

    internal IReadOnlyList<long> Orders
    {
        get
        {
            lock (_lock)
                return [.. _orders];
        }
    }

    public async ValueTask<long> QueryActualAsync(CancellationToken cancellation)
    {
        await AnswerAsync(cancellation);
        return Actual;
    }

    public async ValueTask SetTargetAsync(long bytes, CancellationToken cancellation)
    {
        await AnswerAsync(cancellation);
        if (Refuses)
            throw new FabricException(ErrorCodes.MachineFailed, "Not now.");
        lock (_lock)
            _orders.Add(bytes);
        Target = bytes;
        Actual = Math.Max(bytes, Least);
    }

    public async ValueTask<BalloonStatistics?> QueryStatisticsAsync(CancellationToken cancellation)
    {
        await AnswerAsync(cancellation);
        Queries++;
        long free = Math.Max(0, WouldBeFree - (_full - Actual));
        return Speaks ? new BalloonStatistics(free, free, _full, MajorFaults, 0, 0, reported()) : null;
    }

    public async ValueTask<bool> QueryDeflatesOnOomAsync(CancellationToken cancellation)
    {
        await AnswerAsync(cancellation);
        return Promises;
    }

    internal byte[] Save()
    {
        byte[] state = new byte[8];
        BinaryPrimitives.WriteInt64LittleEndian(state, Target);
        return state;
    }

    internal void Load(ReadOnlySpan<byte> state) => Actual = Target = BinaryPrimitives.ReadInt64LittleEndian(state);

    private Task AnswerAsync(CancellationToken cancellation) => Hangs ? Task.Delay(Timeout.InfiniteTimeSpan, cancellation) : Task.CompletedTask;
}
