using System.Text;
using System.Text.Json;
using Fabric.Core;

namespace Fabric.Journal;

/// <summary>What every store accepts and gives back, whichever engine is under it. A value beyond a bound is refused before the store is asked.</summary>
public static class JournalRules
{
    public const int StreamCharacters = 200;
    public const int HolderCharacters = 200;
    public const int KindCharacters = 100;
    public const int EventsPerAppend = 1024;
    public const int RecordsPerRead = 10_000;
    public const int PayloadBytes = Limits.ControlMessageBytes;
    public const int SnapshotBytes = 16 * 1024 * 1024;

    /// <exception cref="FabricException">invalid-argument.</exception>
    public static void RequireStream(StreamId stream)
    {
        if (!IsText(stream.Value, StreamCharacters))
            throw Invalid($"'{Label.Shorten(stream.Value)}' is not a stream.", $"A stream has 1 to {StreamCharacters} characters, none of them a control character.");
    }

    /// <exception cref="FabricException">invalid-argument.</exception>
    public static void RequireHolder(string holder, TimeSpan duration)
    {
        if (!IsText(holder, HolderCharacters))
            throw Invalid($"'{Label.Shorten(holder)}' cannot hold a shard.", $"A holder has 1 to {HolderCharacters} characters, none of them a control character.");
        if (duration <= TimeSpan.Zero || duration > TimeSpan.FromDays(1))
            throw Invalid($"A lease of {duration} is not possible.", "A lease is longer than zero and at most a day.");
    }

    /// <summary>An epoch that somebody claims to have seen must leave room for those to come.</summary>
    /// <exception cref="FabricException">invalid-argument.</exception>
    public static void RequireFloor(Epoch floor)
    {
        if (floor.Value is < 0 or > long.MaxValue / 2)
            throw Invalid($"Epoch {floor} cannot have been seen.", "Ask the agents again.");
    }

    /// <exception cref="FabricException">invalid-argument.</exception>
    public static void RequireRequest(Guid? request)
    {
        if (request == Guid.Empty)
            throw Invalid("A request id of zeros is none.", "Take a random one.");
    }

    /// <exception cref="FabricException">invalid-argument.</exception>
    public static void RequireMost(int most)
    {
        if (most is < 1 or > RecordsPerRead)
            throw Invalid($"{most} rows cannot be read at once.", $"Ask for 1 to {RecordsPerRead}.");
    }

    /// <summary>What every append is checked for before the store is asked.</summary>
    /// <exception cref="FabricException">invalid-argument.</exception>
    public static void RequireAppend(ShardLease lease, StreamId stream, long lastSequence, IReadOnlyList<NewEvent> events, Guid? request)
    {
        ArgumentNullException.ThrowIfNull(lease);
        ArgumentOutOfRangeException.ThrowIfNegative(lastSequence);
        RequireStream(stream);
        RequireEvents(events);
        RequireRequest(request);
    }

    /// <exception cref="FabricException">invalid-argument.</exception>
    public static void RequireEvents(IReadOnlyList<NewEvent> events)
    {
        ArgumentNullException.ThrowIfNull(events);
        if (events.Count is < 1 or > EventsPerAppend)
            throw Invalid($"{events.Count} events cannot be appended at once.", $"Append 1 to {EventsPerAppend}.");
        foreach (var e in events)
        {
            if (Defect(e.Kind, e.Version, e.Payload) is { } defect)
                throw Invalid($"Event '{Label.Shorten(e.Kind)}' {defect}.", "Kinds are short stable names; payloads are UTF-8 JSON.");
        }
    }

    /// <summary>What is wrong with a stored or a new event, as the end of a sentence; null when nothing is.</summary>
    public static string? Defect(string? kind, long version, byte[]? payload)
    {
        if (!IsText(kind, KindCharacters))
            return "has no proper kind";
        if (version is < 1 or > int.MaxValue)
            return $"has version {version}";
        if (payload is null || payload.Length > PayloadBytes)
            return $"has a payload of {payload?.Length ?? 0} bytes, more than {PayloadBytes} or none";
        return IsJson(payload) ? null : "has a payload that is not whole JSON";
    }

    /// <exception cref="FabricException">invalid-argument.</exception>
    internal static void RequireSnapshot(long sequence, byte[] state)
    {
        ArgumentNullException.ThrowIfNull(state);
        ArgumentOutOfRangeException.ThrowIfLessThan(sequence, 1);
        if (state.Length > SnapshotBytes)
            throw Invalid($"A snapshot of {state.Length} bytes is too large.", $"At most {SnapshotBytes} bytes.");
    }

    /// <exception cref="FabricException">conflict: a stream stays in the shard that made it.</exception>
    internal static void RequireShard(StreamId stream, long own, ShardId asked)
    {
        if (own != asked.Value)
            throw new FabricException(ErrorCodes.Conflict, $"Stream '{stream}' belongs to shard {own}, not to shard {asked.Value}.");
    }

    internal static FabricException NoSnapshot(ShardLease lease) => new(
        ErrorCodes.RefusedByEpoch, $"Shard {lease.Shard.Value} is no longer held by {lease.Holder} at epoch {lease.Epoch}; no snapshot was saved.");

    /// <summary>Text that every engine stores as it is: not too long, no control characters, no half of a surrogate pair.</summary>
    internal static bool IsText(string? text, int most)
    {
        if (string.IsNullOrEmpty(text) || text.Length > most)
            return false;
        foreach (var rune in text.EnumerateRunes())
        {
            if (Rune.IsControl(rune) || rune == Rune.ReplacementChar)
                return false;
        }

        return true;
    }

    private static bool IsJson(byte[] payload)
    {
        var reader = new Utf8JsonReader(payload, isFinalBlock: true, state: default);
        try
        {
            bool any = false;
            while (reader.Read())
                any = true;
            return any;
        }
        catch (JsonException)
        {
            return false;
        }
    }

    internal static FabricException Corrupt(StreamId stream, string what) => Corrupt($"Stream '{stream}'", what);

    internal static FabricException Corrupt(ShardId shard, string what) => Corrupt($"Shard {shard.Value}", what);

    private static FabricException Corrupt(string where, string what) => new(
        ErrorCodes.Corrupt, $"{where} cannot be read: {what}.", "Nothing was changed. Restore the journal from a backup, or repair this place by hand.");

    internal static FabricException Invalid(string message, string hint) => new(ErrorCodes.InvalidArgument, message, hint);
}
