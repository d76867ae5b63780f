using System.Text.Json;
using Fabric.Core;

namespace Fabric.Machines.Qemu;

/// <summary>The guest's balloon, through QMP. The guest reports statistics only once somebody asks for them.</summary>
internal sealed class QemuBalloon(QmpSession qmp, QemuOptions options, long memoryBytes) : IBalloon
{
    private const string Device = "/machine/peripheral/balloon0";
    private const int PollingSeconds = 1;
    private const string DeflateOnOom = "VIRTIO_BALLOON_F_DEFLATE_ON_OOM";

    private bool _polling;

    public async ValueTask<long> QueryActualAsync(CancellationToken cancellation)
    {
        var answer = await qmp.ExecuteAsync("query-balloon", null, options.CommandDeadline, cancellation);
        return QmpJson.Number(answer, "actual")
            ?? throw new FabricException(ErrorCodes.MachineFailed, "QEMU answered 'query-balloon' without a size.");
    }

    public async ValueTask SetTargetAsync(long bytes, CancellationToken cancellation)
    {
        if (bytes <= 0 || bytes > memoryBytes)
            throw new FabricException(ErrorCodes.InvalidArgument, $"A balloon target of {bytes} bytes.", $"Give 1 to {memoryBytes} bytes.");
        await qmp.ExecuteAsync("balloon", writer => writer.WriteNumber("value", bytes), options.CommandDeadline, cancellation);
    }

    public async ValueTask<BalloonStatistics?> QueryStatisticsAsync(CancellationToken cancellation)
    {
        if (!_polling)
        {
            await qmp.ExecuteAsync("qom-set", WritePolling, options.CommandDeadline, cancellation);
            _polling = true;
        }

        return Parse(await qmp.ExecuteAsync("qom-get", WriteStatistics, options.CommandDeadline, cancellation));

        static void WritePolling(Utf8JsonWriter writer)
        {
            writer.WriteString("path", Device);
            writer.WriteString("property", "guest-stats-polling-interval");
            writer.WriteNumber("value", PollingSeconds);
        }

        static void WriteStatistics(Utf8JsonWriter writer)
        {
            writer.WriteString("path", Device);
            writer.WriteString("property", "guest-stats");
        }
    }

    /// <summary>A command of QEMU's that it keeps for debugging: where it is not there, or answers otherwise, the guest has agreed to nothing.</summary>
    public async ValueTask<bool> QueryDeflatesOnOomAsync(CancellationToken cancellation)
    {
        try
        {
            return Agreed(await qmp.ExecuteAsync("x-query-virtio-status", static writer => writer.WriteString("path", Device + "/virtio-backend"), options.CommandDeadline, cancellation));
        }
        catch (FabricException e) when (e.Error.Code == ErrorCodes.MachineFailed)
        {
            return false;
        }
    }

    /// <summary>QEMU names each feature that the guest's driver has accepted, with an explanation behind a colon.</summary>
    internal static bool Agreed(JsonElement answer) =>
        QmpJson.Object(answer, "guest-features") is { } features && features.TryGetProperty("dev-features", out var names) && names.ValueKind == JsonValueKind.Array
        && names.EnumerateArray().Any(static n => n.ValueKind == JsonValueKind.String && n.GetString()!.StartsWith(DeflateOnOom, StringComparison.Ordinal));

    /// <summary>Null before the first report. A value that the guest does not know is 2^64 − 1 in QEMU's answer and null here.</summary>
    internal static BalloonStatistics? Parse(JsonElement answer)
    {
        long seconds = QmpJson.Number(answer, "last-update") ?? 0;
        if (seconds <= 0 || seconds > DateTimeOffset.MaxValue.ToUnixTimeSeconds() || QmpJson.Object(answer, "stats") is not { } stats)
            return null;

        return new BalloonStatistics(
            Value("stat-free-memory"),
            Value("stat-available-memory"),
            Value("stat-total-memory"),
            Value("stat-major-faults"),
            Value("stat-swap-in"),
            Value("stat-swap-out"),
            DateTimeOffset.FromUnixTimeSeconds(seconds));

        long? Value(string name) => QmpJson.Number(stats, name) is >= 0 and { } number ? number : null;
    }
}
