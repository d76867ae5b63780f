namespace Fabric.Core;

/// <summary>
/// What went wrong, said once for people and scripts: a stable <paramref name="Code"/> (see <see cref="ErrorCodes"/>),
/// a message that names the offending value, and, where there is one, what to do about it.
/// </summary>
public sealed record FabricError(string Code, string Message, string? Hint = null)
{
    public override string ToString() => Hint is null ? $"{Message} [{Code}]" : $"{Message} [{Code}] {Hint}";
}

/// <summary>The one exception type that carries a <see cref="FabricError"/> across calls that cannot return one.</summary>
public sealed class FabricException : Exception
{
    public FabricException(FabricError error, Exception? cause = null)
        : base((error ?? throw new ArgumentNullException(nameof(error))).ToString(), cause) => Error = error;

    public FabricException(string code, string message, string? hint = null, Exception? cause = null)
        : this(new FabricError(code, message, hint), cause)
    {
    }

    public FabricError Error { get; }
}

/// <summary>
/// Stable error codes. Scripts depend on them: a code is never renamed and never reused for another meaning.
/// </summary>
public static class ErrorCodes
{
    public const string InvalidArgument = "invalid-argument";
    public const string NotFound = "not-found";
    public const string AlreadyExists = "already-exists";
    public const string Ambiguous = "ambiguous";
    public const string Conflict = "conflict";
    public const string RefusedByEpoch = "refused-by-epoch";
    public const string RefusedBySafety = "refused-by-safety";
    public const string Incompatible = "incompatible";
    public const string Unsupported = "unsupported";
    public const string Malformed = "malformed";
    /// <summary>The control node that was asked does not hold the shard of what was asked for, or is not in its cluster now; nothing was done.</summary>
    public const string NotHeld = "not-held";

    public const string Unreachable = "unreachable";
    public const string DeadlineExceeded = "deadline-exceeded";
    public const string Cancelled = "cancelled";
    public const string Exhausted = "exhausted";

    /// <summary>A host has as many moves as its limits allow; the same command is obeyed when one of them is over.</summary>
    public const string Busy = "busy";

    /// <summary>A push cannot keep the downtime that it was allowed; the VM runs on where it was.</summary>
    public const string NotConverging = "not-converging";

    public const string Lost = "lost";
    public const string Corrupt = "corrupt";
    public const string MachineFailed = "machine-failed";
    public const string StoreFailed = "store-failed";
    public const string Native = "native";
    public const string Internal = "internal";
}
