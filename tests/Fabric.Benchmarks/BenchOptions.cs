using System.Globalization;
using Fabric.Core;

namespace Fabric.Benchmarks;

/// <summary>Reads a benchmark's options; each failure names the value and what is accepted.</summary>
internal static class BenchOptions
{
    internal static int Number(IReadOnlyDictionary<string, string> options, string name, int fallback, int least, int most)
    {
        if (!options.TryGetValue(name, out string? text))
            return fallback;
        return int.TryParse(text, NumberStyles.None, CultureInfo.InvariantCulture, out int value) && value >= least && value <= most
            ? value
            : throw new FabricException(ErrorCodes.InvalidArgument, $"'{Label.Shorten(text)}' is no value for --{name}.", $"Use a whole number from {least} to {most}.");
    }

    /// <summary>The option, or the variable that guests/build.sh's output is passed in.</summary>
    internal static string Existing(IReadOnlyDictionary<string, string> options, string name, string variable)
    {
        string? path = options.GetValueOrDefault(name) ?? Environment.GetEnvironmentVariable(variable);
        return path is not null && File.Exists(path)
            ? Path.GetFullPath(path)
            : throw new FabricException(ErrorCodes.NotFound, $"There is no {name} '{Label.Shorten(path)}'.", $"Give --{name}, or set {variable}: guests/build.sh prints it.");
    }

    /// <summary>All of them, or those that the option names, with commas between.</summary>
    internal static T[] Chosen<T>(IReadOnlyDictionary<string, string> options, string name, T[] all, Func<T, string> nameOf)
    {
        if (!options.TryGetValue(name, out string? text))
            return all;
        string[] words = text.Split(',');
        return words.All(word => all.Any(one => nameOf(one) == word))
            ? [.. all.Where(one => words.Contains(nameOf(one)))]
            : throw new FabricException(ErrorCodes.InvalidArgument, $"'{Label.Shorten(text)}' is no value for --{name}.", $"Use one or more of {string.Join(", ", all.Select(nameOf))}, with commas between.");
    }

    internal static Accelerator AcceleratorOf(IReadOnlyDictionary<string, string> options) => options.GetValueOrDefault("accel", "tcg") switch
    {
        "tcg" => Accelerator.Tcg,
        "kvm" => Accelerator.Kvm,
        var other => throw new FabricException(ErrorCodes.InvalidArgument, $"'{Label.Shorten(other)}' is not an accelerator.", "Use tcg or kvm."),
    };
}
