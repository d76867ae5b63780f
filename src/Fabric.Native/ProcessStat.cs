using System.Globalization;

namespace Fabric.Native;

/// <summary>
/// The fields of <c>/proc/PID/stat</c> that tell one process from another with the same number. The second field is the program's name in
/// parentheses and may itself contain spaces and parentheses, so that fields are counted from the <em>last</em> ')'.
/// </summary>
public readonly record struct ProcessStat(char State, int ParentId, long StartTicks)
{
    // Counted from the field behind the name: state is 0, parent 1, start time (field 22 of the manual) 19.
    private const int StateField = 0;
    private const int ParentField = 1;
    private const int StartField = 19;

    /// <summary>Ended, and only waiting for its parent to notice.</summary>
    public bool IsDead => State is 'Z' or 'X';

    public static bool TryParse(ReadOnlySpan<char> text, out ProcessStat stat)
    {
        stat = default;
        int name = text.LastIndexOf(')');
        if (name < 0 || name + 2 >= text.Length)
            return false;
        var rest = text[(name + 2)..].TrimEnd();
        char state = '\0';
        int parent = -1;
        int field = 0;
        foreach (var range in rest.Split(' '))
        {
            var value = rest[range];
            switch (field++)
            {
                case StateField when value.Length == 1:
                    state = value[0];
                    break;
                case StateField:
                    return false;
                case ParentField:
                    if (!int.TryParse(value, NumberStyles.AllowLeadingSign, CultureInfo.InvariantCulture, out parent))
                        return false;
                    break;
                case StartField:
                    if (!long.TryParse(value, NumberStyles.None, CultureInfo.InvariantCulture, out long start))
                        return false;
                    stat = new ProcessStat(state, parent, start);
                    return true;
            }
        }

        return false;
    }

    /// <summary>Null when there is no such process.</summary>
    public static ProcessStat? Read(int processId)
    {
        try
        {
            return TryParse(File.ReadAllText($"/proc/{processId}/stat"), out var stat) ? stat : null;
        }
        catch (IOException)
        {
            // Not found, or ESRCH because it ended between open and read.
            return null;
        }
    }
}

/// <summary>
/// One process for all time on this machine: its number, when it started (clock ticks since boot), and which boot that was. A recycled number
/// never compares equal.
/// </summary>
public sealed record ProcessIdentity(int ProcessId, long StartTicks, string BootId)
{
    /// <summary>The identity of a living process; null when there is none with this number.</summary>
    public static ProcessIdentity? Of(int processId) => ProcessStat.Read(processId) is { IsDead: false } stat
        ? new ProcessIdentity(processId, stat.StartTicks, CurrentBoot())
        : null;

    /// <summary>True while exactly this process lives.</summary>
    public bool IsAlive() => Of(ProcessId) == this;

    private static string CurrentBoot() => File.ReadAllText("/proc/sys/kernel/random/boot_id").Trim();
}
