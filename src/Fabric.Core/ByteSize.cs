using System.Globalization;

namespace Fabric.Core;

/// <summary>Sizes as people write them: <c>256M</c>, <c>4GiB</c>, <c>65536</c>. K, M, G and T are powers of 1024.</summary>
public static class ByteSize
{
    public const long Kibi = 1024;
    public const long Mebi = 1024 * Kibi;
    public const long Gibi = 1024 * Mebi;
    public const long Tebi = 1024 * Gibi;

    public static bool TryParse(string? text, out long bytes)
    {
        bytes = 0;
        if (string.IsNullOrWhiteSpace(text) || text.Length > 32)
            return false;
        string trimmed = text.Trim();
        int digits = 0;
        while (digits < trimmed.Length && char.IsAsciiDigit(trimmed[digits]))
            digits++;
        if (digits == 0 || !long.TryParse(trimmed.AsSpan(0, digits), NumberStyles.None, CultureInfo.InvariantCulture, out long count))
            return false;
        long unit = trimmed[digits..].Trim().ToUpperInvariant() switch
        {
            "" or "B" => 1,
            "K" or "KB" or "KIB" => Kibi,
            "M" or "MB" or "MIB" => Mebi,
            "G" or "GB" or "GIB" => Gibi,
            "T" or "TB" or "TIB" => Tebi,
            _ => 0,
        };
        if (unit == 0 || count > long.MaxValue / unit)
            return false;
        bytes = count * unit;
        return true;
    }

    /// <exception cref="FabricException">invalid-argument, naming the text and the accepted forms.</exception>
    public static long Parse(string? text, string what) => TryParse(text, out long bytes)
        ? bytes
        : throw new FabricException(ErrorCodes.InvalidArgument, $"'{Label.Shorten(text)}' is not a size for {what}.", "Write a whole number with K, M, G or T: 256M");

    /// <summary>For people: one decimal, binary units.</summary>
    public static string Format(long bytes) => bytes switch
    {
        < Kibi => string.Create(CultureInfo.InvariantCulture, $"{bytes} B"),
        < Mebi => string.Create(CultureInfo.InvariantCulture, $"{bytes / (double)Kibi:0.0} KiB"),
        < Gibi => string.Create(CultureInfo.InvariantCulture, $"{bytes / (double)Mebi:0.0} MiB"),
        < Tebi => string.Create(CultureInfo.InvariantCulture, $"{bytes / (double)Gibi:0.0} GiB"),
        _ => string.Create(CultureInfo.InvariantCulture, $"{bytes / (double)Tebi:0.0} TiB"),
    };
}
