using System.Diagnostics;
using System.Globalization;
using System.Text;
using System.Text.Json;
using Fabric.Benchmarks.Compare;
using Fabric.Core;
using Fabric.Integration.Postgres;
using Fabric.Journal;
using Fabric.Journal.Postgres;
using Fabric.Journal.Sqlite;

namespace Fabric.Benchmarks.Journal;

/// <summary>One store with one number of appenders. Times in milliseconds, from the call to its durable answer.</summary>
public sealed record JournalRow(string Store, int Appenders, double AppendsPerSecond, double MedianMs, double P99Ms, double MostMs, int Appends, double Seconds);

/// <summary>
/// <c>fabric-bench journal</c>: durable appends a second of each store. Every appender has a stream of its own, in one of 32 shards, and appends one event of
/// 300 bytes after another. Exit 1 when a store's best is under the bar, or when what is read back is not exactly what was answered.
/// </summary>
public static class JournalBench
{
    public const string Usage = """
        fabric-bench journal [--seconds 5] [--out DIR]
          Appends a second with 1, 16, 64 and 256 appenders over 32 shards, on SQLite and on a PostgreSQL server of its own (skipped where none is installed).
          Writes journal.md and journal.json to DIR (artifacts/bench). TMPDIR decides on which disk the stores are.
        """;

    private const int Shards = 32;
    private const int Bar = 2000;
    private static readonly JsonSerializerOptions Json = new() { WriteIndented = true, PropertyNamingPolicy = JsonNamingPolicy.SnakeCaseLower };

    public static async Task<int> RunAsync(IReadOnlyDictionary<string, string> values, TextWriter talk, CancellationToken cancellation)
    {
        ArgumentNullException.ThrowIfNull(talk);
        TimeSpan span = TimeSpan.FromSeconds(BenchOptions.Number(values, "seconds", 5, 1, 600));
        string directory = values.GetValueOrDefault("out", Path.Combine("artifacts", "bench"));
        var rows = new List<JournalRow>();
        string folder = Directory.CreateTempSubdirectory("fabric-bench-").FullName;
        try
        {
            var options = new SqliteJournalOptions { Path = Path.Combine(folder, "journal.db") };
            await using var journal = await SqliteJournal.OpenAsync(options, TimeProvider.System, new Random(), cancellation);
            await MeasureAsync("SQLite", journal, span, rows, talk, cancellation);
        }
        finally
        {
            Directory.Delete(folder, recursive: true);
        }

        if (TemporaryPostgres.Unavailable() is { } lack)
        {
            await talk.WriteLineAsync($"PostgreSQL is left out: {lack}");
        }
        else
        {
            await using var server = await TemporaryPostgres.StartAsync();
            var options = new PostgresJournalOptions { ConnectionString = await server.TakeDatabaseAsync() };
            await using var journal = await PostgresJournal.OpenAsync(options, TimeProvider.System, new Random(), cancellation);
            await MeasureAsync("PostgreSQL", journal, span, rows, talk, cancellation);
        }

        Directory.CreateDirectory(directory);
        string machine = $"{Environment.ProcessorCount} processors, {Environment.OSVersion.VersionString}";
        await File.WriteAllTextAsync(Path.Combine(directory, "journal.json"), JsonSerializer.Serialize(new { machine, bar = Bar, rows }, Json), CancellationToken.None);
        await File.WriteAllTextAsync(Path.Combine(directory, "journal.md"), Markdown(machine, rows), CancellationToken.None);
        await talk.WriteLineAsync("\n" + Markdown(machine, rows));
        return rows.GroupBy(r => r.Store).All(g => g.Max(r => r.AppendsPerSecond) >= Bar) ? 0 : 1;
    }

    private static async Task MeasureAsync(string store, IJournal journal, TimeSpan span, List<JournalRow> rows, TextWriter talk, CancellationToken cancellation)
    {
        var leases = new List<ShardLease>();
        for (int shard = 0; shard < Shards; shard++)
            leases.Add((await journal.AcquireAsync(new ShardId(shard), "bench", TimeSpan.FromHours(1), Epoch.None, cancellation)).Lease!);
        await OnceAsync(store, journal, leases, 16, "warm", TimeSpan.FromSeconds(1), cancellation);
        foreach (int appenders in (int[])[1, 16, 64, 256])
        {
            var row = await OnceAsync(store, journal, leases, appenders, $"run-{appenders}", span, cancellation);
            rows.Add(row);
            await talk.WriteLineAsync($"{store}, {appenders} appenders: {row.AppendsPerSecond:0} a second");
        }
    }

    private static async Task<JournalRow> OnceAsync(
        string store, IJournal journal, List<ShardLease> leases, int appenders, string run, TimeSpan span, CancellationToken cancellation)
    {
        byte[] payload = Encoding.UTF8.GetBytes($$"""{"text":"{{new string('x', 289)}}"}""");
        long begun = Stopwatch.GetTimestamp();
        var times = await Task.WhenAll(Enumerable.Range(0, appenders).Select(i => Task.Run(
            async () =>
            {
                var taken = new List<double>();
                var stream = new StreamId($"{run}/{i}");
                while (Stopwatch.GetElapsedTime(begun) < span)
                {
                    long asked = Stopwatch.GetTimestamp();
                    var refusal = await journal.AppendAsync(leases[i % Shards], stream, taken.Count, [new NewEvent("measured", 1, payload)], cancellation);
                    if (refusal != JournalRefusal.None)
                        throw new FabricException(ErrorCodes.Internal, $"An append was refused: {refusal}.");
                    taken.Add(Stopwatch.GetElapsedTime(asked).TotalMilliseconds);
                }

                return taken;
            },
            cancellation)));
        double seconds = Stopwatch.GetElapsedTime(begun).TotalSeconds;
        for (int i = 0; i < appenders; i++)
            await RequireAsync(journal, new StreamId($"{run}/{i}"), times[i].Count, cancellation);
        double[] sorted = [.. times.SelectMany(t => t).Order()];
        return new JournalRow(
            store, appenders, sorted.Length / seconds, Statistics.Of(sorted)!.Median, sorted[(int)(0.99 * (sorted.Length - 1))], sorted[^1], sorted.Length, seconds);
    }

    private static async Task RequireAsync(IJournal journal, StreamId stream, int expected, CancellationToken cancellation)
    {
        int read = 0;
        while (await journal.ReadAsync(stream, read, 10_000, cancellation) is { Count: > 0 } next)
            read += next.Count;
        if (read != expected)
            throw new FabricException(ErrorCodes.Corrupt, $"Stream '{stream}' has {read} events; {expected} were answered.");
    }

    private static string Markdown(string machine, List<JournalRow> rows)
    {
        var text = new StringBuilder();
        text.Append(CultureInfo.InvariantCulture, $"# Durable appends\n\n    dotnet run -c Release --project tests/Fabric.Benchmarks -- journal\n\nMachine: {machine}. ");
        text.Append("Every appender has a stream of its own in one of 32 shards and appends one event of 300 bytes after another; one process appends. SQLite: synchronous = FULL. ");
        text.Append("PostgreSQL: fsync and synchronous_commit on, on the same machine and disk. What was answered was read back.\n\n");
        text.Append("| store | appenders | appends/s | median ms | p99 ms | most ms |\n|---|---|---|---|---|---|\n");
        foreach (var row in rows)
            text.Append(CultureInfo.InvariantCulture, $"| {row.Store} | {row.Appenders} | {row.AppendsPerSecond:0} | {row.MedianMs:0.00} | {row.P99Ms:0.00} | {row.MostMs:0.0} |\n");
        return text.ToString();
    }
}
