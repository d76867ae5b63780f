using System.Text.RegularExpressions;

namespace Fabric.Architecture.Sources;

/// <summary>A method, constructor, accessor list or expression-bodied member: its first words, where it begins, how long it is.</summary>
public sealed record Member(string Head, int FirstLine, int LineCount);

/// <summary>
/// Finds the members of all types in a C# file by matching braces in stripped text. No compiler: a heuristic, exact enough
/// to measure length. Local functions and lambdas count with the member that holds them; tables (initializers of
/// fields and properties) are no functions and are left out.
/// </summary>
public static partial class Members
{
    private enum Block
    {
        Outer,
        Type,
        Member,
        Inner,
    }

    [GeneratedRegex(@"\bnamespace\s+[\w.]+\s*$")]
    private static partial Regex NamespaceHead();

    [GeneratedRegex(@"^\s*((public|private|protected|internal|static|sealed|abstract|partial|readonly|ref|file|unsafe|new)\s+)*(class|struct|interface|record|enum)\b")]
    private static partial Regex TypeHead();

    public static IReadOnlyList<Member> Find(TextFile file)
    {
        ArgumentNullException.ThrowIfNull(file);
        string text = CSharpText.Strip(file.Content);
        var members = new List<Member>();
        var blocks = new Stack<(Block Kind, int Head)>([(Block.Outer, 0)]);
        int head = 0;
        for (int at = 0; at < text.Length; at++)
        {
            var parent = blocks.Peek().Kind;
            switch (text[at])
            {
                case '{':
                    var kind = Classify(parent, text[head..at]);
                    blocks.Push((kind, head));
                    if (kind is Block.Outer or Block.Type)
                        head = at + 1;
                    break;
                case '}' when blocks.Count > 1:
                    var closed = blocks.Pop();
                    if (closed.Kind == Block.Member)
                        members.Add(Describe(file, text, closed.Head, at));
                    if (closed.Kind != Block.Inner)
                        head = at + 1;
                    break;
                case ';' when parent is Block.Type or Block.Outer:
                    if (parent == Block.Type && InitializerOrBody(text[head..at]) == "=>")
                        members.Add(Describe(file, text, head, at));
                    head = at + 1;
                    break;
                default:
                    break;
            }
        }

        return members;
    }

    private static Block Classify(Block parent, string head)
    {
        if (parent is Block.Member or Block.Inner)
            return Block.Inner;
        string bare = head[SkipAttributes(head)..];
        if (TypeHead().IsMatch(bare))
            return Block.Type;
        if (parent == Block.Outer)
            return NamespaceHead().IsMatch(bare) ? Block.Outer : Block.Inner;
        return InitializerOrBody(head).Length > 0 ? Block.Inner : Block.Member;
    }

    /// <summary>"=" for an initializer, "=>" for an expression body, empty for neither; parentheses and brackets are looked past.</summary>
    private static string InitializerOrBody(string head)
    {
        if (head.Contains(" operator ", StringComparison.Ordinal))
            return head.Contains("=>", StringComparison.Ordinal) ? "=>" : "";
        int depth = 0;
        for (int i = 0; i < head.Length; i++)
        {
            depth += head[i] switch { '(' or '[' => 1, ')' or ']' => -1, _ => 0 };
            if (depth == 0 && head[i] == '=')
                return i + 1 < head.Length && head[i + 1] == '>' ? "=>" : "=";
        }

        return "";
    }

    private static Member Describe(TextFile file, string text, int head, int end)
    {
        int start = head + SkipAttributes(text[head..end]);
        int first = file.LineOf(start);
        string words = string.Join(' ', text[start..end].Split(['\n', '{'])[0].Split((char[]?)null, StringSplitOptions.RemoveEmptyEntries));
        return new Member(words, first, file.LineOf(end) - first + 1);
    }

    /// <summary>Length of the white space and the [attributes] at the beginning.</summary>
    private static int SkipAttributes(string head)
    {
        int at = 0;
        while (true)
        {
            while (at < head.Length && char.IsWhiteSpace(head[at]))
                at++;
            if (at >= head.Length || head[at] != '[')
                return at;
            for (int depth = 0; at < head.Length;)
            {
                depth += head[at] switch { '[' => 1, ']' => -1, _ => 0 };
                at++;
                if (depth == 0)
                    break;
            }
        }
    }
}
