using Fabric.Core;

namespace Fabric.Daemon;

/// <summary><c>fabricd --config FILE [--dir D] [--set key=value]… </c></summary>
public sealed record DaemonArguments(string? Config, string? Directory, IReadOnlyList<string> Assignments, bool Help)
{
    public const string Usage = """
        Usage: fabricd --config FILE [--dir DIRECTORY] [--set KEY=VALUE]...

          --config FILE     configuration (YAML); docs/OPERATIONS.md lists the keys
          --dir DIRECTORY   state directory when the configuration names none
          --set KEY=VALUE   one setting, over the file and over FABRIC_* variables; may be repeated
        """;

    /// <exception cref="FabricException">invalid-argument, naming the word.</exception>
    public static DaemonArguments Parse(IReadOnlyList<string> words)
    {
        ArgumentNullException.ThrowIfNull(words);
        string? config = null;
        string? directory = null;
        var assignments = new List<string>();
        for (int i = 0; i < words.Count; i++)
        {
            switch (words[i])
            {
                case "--help" or "-h":
                    return new DaemonArguments(null, null, [], Help: true);
                case "--config":
                    config = Next(ref i);
                    break;
                case "--dir":
                    directory = Next(ref i);
                    break;
                case "--set":
                    assignments.Add(Next(ref i));
                    break;
                default:
                    throw new FabricException(ErrorCodes.InvalidArgument, $"'{Label.Shorten(words[i])}' is not understood.", Usage);
            }
        }

        return new DaemonArguments(config, directory, assignments, Help: false);

        string Next(ref int i) => ++i < words.Count
            ? words[i]
            : throw new FabricException(ErrorCodes.InvalidArgument, $"{words[i - 1]} needs a value.", Usage);
    }
}
