namespace Fabric.Architecture.Sources;

/// <summary>
/// C# with comments, strings, characters and preprocessor lines replaced by blanks, position by position, so that words and
/// braces which remain are code. Knows regular, verbatim, interpolated (nested) and raw strings; code inside an
/// interpolation is blanked with its string.
/// </summary>
public static class CSharpText
{
    public static string Strip(string text)
    {
        ArgumentNullException.ThrowIfNull(text);
        char[] result = text.ToCharArray();
        int at = 0;
        while (at < text.Length)
        {
            int end = SkipAt(text, at);
            if (end == at)
            {
                at++;
                continue;
            }

            for (int i = at; i < end; i++)
            {
                if (result[i] is not ('\n' or '\r'))
                    result[i] = ' ';
            }

            at = end;
        }

        return new string(result);
    }

    /// <summary>The position after the comment, literal or directive that begins at <paramref name="at"/>; <paramref name="at"/> itself where none does.</summary>
    private static int SkipAt(string text, int at)
    {
        char c = text[at];
        char next = at + 1 < text.Length ? text[at + 1] : '\0';
        if (c == '/' && next == '/')
            return EndOr(text.IndexOf('\n', at), text);
        if (c == '/' && next == '*')
            return EndOr(text.IndexOf("*/", at + 2, StringComparison.Ordinal), text, 2);
        if (c == '#' && IsFirstOnLine(text, at))
            return EndOr(text.IndexOf('\n', at), text);
        if (c == '\'')
            return SkipQuoted(text, at + 1, '\'');
        if (c == '"')
            return text.AsSpan(at).StartsWith("\"\"\"") ? SkipRaw(text, at) : SkipQuoted(text, at + 1, '"');
        return c is '$' or '@' ? SkipPrefixed(text, at) : at;
    }

    private static int SkipPrefixed(string text, int at)
    {
        int quote = at;
        while (quote < text.Length && text[quote] is '$' or '@')
            quote++;
        if (quote >= text.Length || text[quote] != '"')
            return at;
        int dollars = text.AsSpan(at, quote - at).Count('$');
        bool verbatim = text.AsSpan(at, quote - at).Contains('@');
        if (!verbatim && text.AsSpan(quote).StartsWith("\"\"\""))
            return SkipRaw(text, quote);
        return dollars > 0 ? SkipInterpolated(text, quote + 1, verbatim) : SkipVerbatim(text, quote + 1);
    }

    private static int SkipQuoted(string text, int at, char quote)
    {
        for (; at < text.Length && text[at] != '\n'; at++)
        {
            if (text[at] == '\\')
                at++;
            else if (text[at] == quote)
                return at + 1;
        }

        return at;
    }

    private static int SkipVerbatim(string text, int at)
    {
        for (; at < text.Length; at++)
        {
            if (text[at] != '"')
                continue;
            if (at + 1 >= text.Length || text[at + 1] != '"')
                return at + 1;
            at++;
        }

        return at;
    }

    private static int SkipInterpolated(string text, int at, bool verbatim)
    {
        while (at < text.Length)
        {
            char c = text[at];
            bool doubled = at + 1 < text.Length && text[at + 1] == c;
            if (c == '\\' && !verbatim)
                at += 2;
            else if (c == '"' && verbatim && doubled)
                at += 2;
            else if (c == '"')
                return at + 1;
            else if (c == '{' && doubled)
                at += 2;
            else if (c == '{')
                at = SkipHole(text, at + 1);
            else
                at++;
        }

        return at;
    }

    /// <summary>Code inside an interpolation, up to its closing brace.</summary>
    private static int SkipHole(string text, int at)
    {
        for (int depth = 1; at < text.Length;)
        {
            int end = SkipAt(text, at);
            if (end > at)
            {
                at = end;
                continue;
            }

            depth += text[at] switch { '{' => 1, '}' => -1, _ => 0 };
            at++;
            if (depth == 0)
                return at;
        }

        return at;
    }

    private static int SkipRaw(string text, int at)
    {
        int quotes = 0;
        while (at + quotes < text.Length && text[at + quotes] == '"')
            quotes++;
        string fence = new('"', quotes);
        // Holes of a raw string hold no fence of the same length: the first one ends it.
        int end = text.IndexOf(fence, at + quotes, StringComparison.Ordinal);
        if (end < 0)
            return text.Length;
        end += quotes;
        while (end < text.Length && text[end] == '"')
            end++;
        return end;
    }

    private static bool IsFirstOnLine(string text, int at)
    {
        for (int i = at - 1; i >= 0 && text[i] != '\n'; i--)
        {
            if (!char.IsWhiteSpace(text[i]))
                return false;
        }

        return true;
    }

    private static int EndOr(int found, string text, int length = 0) => found < 0 ? text.Length : found + length;
}
