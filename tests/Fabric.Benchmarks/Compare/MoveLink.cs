using System.Globalization;
using Fabric.Benchmarks.Lab;
using Fabric.Core;

namespace Fabric.Benchmarks.Compare;

/// <summary>What lies between the two hosts: loopback, as fast as this machine is, or a link of a known rate in a laboratory.</summary>
/// <param name="Name">As it was asked for.</param>
/// <param name="Shape">Null: loopback.</param>
public sealed record MoveLink(string Name, LinkShape? Shape)
{
    private const string Expected = "Use loopback, or a rate such as 400mbit or 1gbit, from 1mbit to 100gbit.";

    public static MoveLink Loopback { get; } = new("loopback", null);

    /// <summary>Null on loopback.</summary>
    public double? BytesPerSecond => Shape?.BitsPerSecond / 8.0;

    /// <exception cref="FabricException">invalid-argument, with the value.</exception>
    public static MoveLink Parse(string text)
    {
        ArgumentNullException.ThrowIfNull(text);
        if (text == Loopback.Name)
            return Loopback;
        foreach (var (unit, bits) in new[] { ("gbit", 1_000_000_000L), ("mbit", 1_000_000L) })
        {
            if (text.EndsWith(unit, StringComparison.Ordinal) && int.TryParse(text.AsSpan(0, text.Length - unit.Length), NumberStyles.None, CultureInfo.InvariantCulture, out int number)
                && number * bits is >= 1_000_000 and <= 100_000_000_000)
                return new MoveLink(text, new LinkShape(number * bits));
        }

        throw new FabricException(ErrorCodes.InvalidArgument, $"'{Label.Shorten(text)}' is no link.", Expected);
    }

    /// <summary>The laboratory with both hosts, to be disposed of; null on loopback.</summary>
    /// <exception cref="FabricException">unsupported, with the remedy; native.</exception>
    public LinkLab? Build()
    {
        if (Shape is null)
            return null;
        return LinkLab.WhyNot is { } lacking
            ? throw new FabricException(ErrorCodes.Unsupported, $"There can be no link of {Name} here: {lacking}.", "Run as root, or use --link loopback.")
            : LinkLab.Build(Pair.Hosts, Shape);
    }
}
