using System.Globalization;
using System.Text.RegularExpressions;
using Fabric.Benchmarks.Lab;
using Fabric.Benchmarks.Moving;
using Fabric.Core;
using Fabric.Migration;
using Fabric.Wire.Api;

namespace Fabric.Benchmarks.ClientGap;

/// <summary>One guest moved back and forth between two hosts while TCP clients in this process's namespace, which is neither's, talk to it.</summary>
public sealed partial class ClientGapRun(ClientGapOptions options, TimeProvider time, Action<string> say)
{
    private const int NumbersAfter = 100;
    private const int LogLinesMost = 100_000;

    private static readonly TimeSpan BootWithin = TimeSpan.FromSeconds(90);
    private static readonly TimeSpan GoesOnWithin = TimeSpan.FromSeconds(30);
    private static readonly TimeSpan Calm = TimeSpan.FromSeconds(1);
    private static readonly TimeSpan Period = TimeSpan.FromMilliseconds(20);

    private readonly List<ClientGapSample> _samples = [];

    /// <exception cref="FabricException">a move failed, or a stream broke: then its client lost its connection, which is the one thing that must not happen.</exception>
    public async Task<ClientGapResult> RunAsync(CancellationToken cancellation)
    {
        var lab = await LabCluster.StartAsync(hosts: 2, options.Shape, time, cancellation);
        long late = 0;
        try
        {
            await lab.Cluster.WaitUntilReadyAsync(cancellation);
            await PlayAsync(lab, cancellation);
            late = lab.Cluster.Hosts.Sum(host => lab.Cluster.LogLines(host, LogLinesMost).Sum(static line => LateFrames().Match(line) is { Success: true } found
                ? long.Parse(found.Groups["count"].Value, CultureInfo.InvariantCulture)
                : 0));
        }
        catch (FabricException)
        {
            foreach (string host in lab.Cluster.Hosts)
                say($"The end of the log of {host}:\n{lab.Cluster.LogTail(host)}");
            throw;
        }
        finally
        {
            await lab.DisposeAsync();
        }

        string link = options.Shape is { } shape ? string.Create(CultureInfo.InvariantCulture, $"links of {shape.BitsPerSecond / 1e6:0} Mb/s") : "links without a limit";
        if (options.Bandwidth is { } most)
            link += string.Create(CultureInfo.InvariantCulture, $", moves limited to {most * 8 / 1e6:0} Mb/s");
        return new ClientGapResult(
            $"{BenchReport.Machine($"{options.Guest.Accelerator}")}, {link}",
            $"{ByteSize.Format(options.Guest.MemoryBytes)}, {(options.DownloadBytes is { } filled ? $"iPXE with {ByteSize.Format(filled)} downloaded" : options.Guest.Append)}", options.Moves, _samples, late, lab.Left);
    }

    [GeneratedRegex(@"(?<count>\d+) frames that came after its stop were sent after it", RegexOptions.ExplicitCapture, matchTimeoutMilliseconds: 1000)]
    private static partial Regex LateFrames();

    private async Task PlayAsync(LabCluster lab, CancellationToken cancellation)
    {
        var address = lab.Lab.NextGuest();
        using var server = options.DownloadBytes is { } bytes ? new DownloadServer(lab.Lab.OwnAddress, bytes) : null;
        var spec = options.Guest with { Nics = [new NicSpec(LinkLab.Bridge)], Append = server?.CommandsFor(address) ?? $"{options.Guest.Append} {LinkLab.GuestOption(address)}" };
        HostName[] hosts = [.. lab.Cluster.Hosts.Select(HostName.Parse)];
        await lab.Client.CreateVmAsync(new CreateVmRequest(spec, hosts[0]), cancellation);
        var record = server is null ? new GuestRecord(lab.Cluster, spec.Name) : null;
        var streams = new List<ClientStream>();
        try
        {
            if (server is not null)
                streams.Add(await server.AcceptAsync(BootWithin, time, cancellation));
            else
                foreach (var kind in GuestStream.Kinds)
                    streams.Add(await GuestStream.OpenAsync(kind, address, BootWithin, time, cancellation));
            for (int move = 0; move < options.Moves; move++)
                await MoveAsync(lab, record, (hosts[move % 2], hosts[(move + 1) % 2]), move, streams, cancellation);
        }
        finally
        {
            streams.ForEach(static s => s.Dispose());
        }
    }

    private async Task MoveAsync(LabCluster lab, GuestRecord? record, (HostName From, HostName To) way, int move, List<ClientStream> streams, CancellationToken cancellation)
    {
        streams.ForEach(static s => s.Forget());
        await Task.Delay(Calm, time, cancellation);
        var calm = streams.ConvertAll(static s => s.LongestGap);
        streams.ForEach(static s => s.Forget());
        var mode = options.Modes[move % options.Modes.Count];
        record?.ReadFrom(way.From);
        int beats = record?.Log.Beats.Count ?? 0;
        var report = await lab.MoveAsync(options.Guest.Name, way.To, new MigrationOptions(mode) { BandwidthBytesPerSecond = options.Bandwidth }, cancellation);
        foreach (var stream in streams)
            await GoesOnAsync(stream, way.To, cancellation);
        double? guest = record is null ? null : await GuestGapAsync(record, beats, way, cancellation);
        double downtime = report.DowntimeMs ?? throw new FabricException(ErrorCodes.Corrupt, "The migration's record has no downtime.");
        for (int i = 0; i < streams.Count; i++)
        {
            var sample = new ClientGapSample(move + 1, mode, streams[i].Kind, downtime, streams[i].LongestGap.TotalMilliseconds, calm[i].TotalMilliseconds, guest, report.TotalMs ?? 0);
            _samples.Add(sample);
            say(string.Create(
                CultureInfo.InvariantCulture,
                $"{sample.Move,3} {mode,-8} → {way.To,-5} {sample.Stream,-5} downtime {sample.DowntimeMs,6:0.0}  gap {sample.GapMs,6:0.0}  excess {sample.ExcessMs,6:0.0}  guest {sample.GuestGapMs,5:0.0}  calm {sample.CalmMs,5:0.0}  total {sample.TotalMs,5:0} ms"));
        }
    }

    /// <summary>The largest of the beats since some number of them, when two were written at the new host.</summary>
    private async Task<double> GuestGapAsync(GuestRecord record, int before, (HostName From, HostName To) way, CancellationToken cancellation)
    {
        record.ReadFrom(way.From);
        int atSource = record.Log.Beats.Count;
        for (long began = time.GetTimestamp(); record.Log.Beats.Count < atSource + 2; await Task.Delay(Period, time, cancellation))
        {
            record.ReadFrom(way.To);
            if (time.GetElapsedTime(began) > GoesOnWithin)
                throw new FabricException(ErrorCodes.DeadlineExceeded, $"The guest's heart did not beat within {GoesOnWithin.TotalSeconds:0} s of the move to {way.To}.");
        }

        return record.Complaint() is { } complaint && record.Log.OkCount > 0
            ? throw new FabricException(ErrorCodes.Corrupt, $"The guest found an error after the move to {way.To}: {complaint}.")
            : record.Log.Beats.Skip(before).Max(static beat => beat.GapMaxUs) / 1000.0;
    }

    /// <summary>A gap that has not ended is not measured: the stream must have gone on for a while.</summary>
    private async Task GoesOnAsync(ClientStream stream, HostName at, CancellationToken cancellation)
    {
        long began = time.GetTimestamp();
        for (long before = stream.Received; stream.Received < before + NumbersAfter; await Task.Delay(Period, time, cancellation))
        {
            if (stream.Failure is { } failure)
                throw new FabricException(ErrorCodes.Lost, $"The client's {stream.Kind} stream broke at the move to {at}: {failure}");
            if (time.GetElapsedTime(began) > GoesOnWithin)
                throw new FabricException(ErrorCodes.DeadlineExceeded, $"The client's {stream.Kind} stream did not go on within {GoesOnWithin.TotalSeconds:0} s of the move to {at}.");
        }
    }
}
