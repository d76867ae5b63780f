using System.Text.Json;

namespace Fabric.Benchmarks;

/// <summary>What all reports of benchmarks have in common.</summary>
internal static class BenchReport
{
    internal static JsonSerializerOptions Json { get; } = new() { WriteIndented = true, PropertyNamingPolicy = JsonNamingPolicy.SnakeCaseLower };

    /// <summary>What the guests ran on.</summary>
    internal static string Machine(string accelerator) => $"{Environment.ProcessorCount} processors, Linux {Environment.OSVersion.Version}, accelerator {accelerator}";

    /// <summary>Where the files of a run go: <c>--out</c>, or the default; the directory is made.</summary>
    internal static string Directory(IReadOnlyDictionary<string, string> options) =>
        System.IO.Directory.CreateDirectory(options.GetValueOrDefault("out", Path.Combine("artifacts", "bench"))).FullName;

    /// <summary>Writes NAME.json and NAME.md, and says the latter. What was measured is kept, also when somebody interrupts now.</summary>
    internal static async Task WriteAsync(IReadOnlyDictionary<string, string> options, string name, string json, string markdown, TextWriter talk)
    {
        string directory = Directory(options);
        await File.WriteAllTextAsync(Path.Combine(directory, name + ".json"), json, CancellationToken.None);
        await File.WriteAllTextAsync(Path.Combine(directory, name + ".md"), markdown, CancellationToken.None);
        await talk.WriteLineAsync("\n" + markdown);
    }
}
