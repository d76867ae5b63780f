// For tests of crashes only: a decorator over the real ledgers that ends this process, or the VM's machine, at one exact point of the
// protocol. Composed by fabricd only when FABRIC_FAULT is set; nothing of it is in a production agent's way.
using System.Diagnostics;
using System.Reflection;
using System.Text.Json;
using System.Text.Json.Serialization;
using Fabric.Core;

namespace Fabric.Host.Ledger;

public enum FaultMoment
{
    /// <summary>The record has not been written.</summary>
    Before,

    /// <summary>The record is durable, and nothing after it has happened.</summary>
    After,
}

public enum FaultVictim
{
    Agent,
    Machine,
}

/// <summary>One fault, once: <c>after token-sent agent</c>, <c>before accepted machine</c>.</summary>
public sealed record FaultPoint(FaultMoment Moment, string RecordKind, FaultVictim Victim)
{
    /// <summary>The kinds of ledger records, by their stable names.</summary>
    public static IReadOnlyList<string> RecordKinds { get; } =
        [.. typeof(VmRecord).GetCustomAttributes<JsonDerivedTypeAttribute>().Select(a => (string)a.TypeDiscriminator!)];

    /// <exception cref="FabricException">invalid-argument: not "before|after KIND agent|machine".</exception>
    public static FaultPoint Parse(string text)
    {
        string[] words = text.Split(' ', StringSplitOptions.RemoveEmptyEntries);
        if (words.Length == 3 && Enum.TryParse<FaultMoment>(words[0], ignoreCase: true, out var moment) && RecordKinds.Contains(words[1])
            && Enum.TryParse<FaultVictim>(words[2], ignoreCase: true, out var victim))
        {
            return new FaultPoint(moment, words[1], victim);
        }

        throw new FabricException(ErrorCodes.InvalidArgument, $"'{Label.Shorten(text)}' is not a fault.", $"Write: before|after KIND agent|machine, KIND one of {string.Join(", ", RecordKinds)}.");
    }

    internal static string KindOf(VmRecord record) =>
        (string)typeof(VmRecord).GetCustomAttributes<JsonDerivedTypeAttribute>().Single(a => a.DerivedType == record.GetType()).TypeDiscriminator!;
}

public sealed class FaultyLedgers(ILedgerStore inner, FaultPoint fault) : ILedgerStore
{
    public IReadOnlyList<VmName> List() => inner.List();

    public IVmLedger Open(VmName vm) => new FaultyLedger(inner.Open(vm), fault);

    private sealed class FaultyLedger(IVmLedger inner, FaultPoint fault) : IVmLedger
    {
        private bool _struck;

        public VmLedgerState State => inner.State;

        public void Append(params ReadOnlySpan<VmRecord> records)
        {
            bool hit = false;
            foreach (var record in records)
                hit |= FaultPoint.KindOf(record) == fault.RecordKind;
            if (hit && fault.Moment == FaultMoment.Before)
                Strike();
            inner.Append(records);
            if (hit && fault.Moment == FaultMoment.After)
                Strike();
        }

        public void Dispose() => inner.Dispose();

        private void Strike()
        {
            if (_struck)
                return;
            _struck = true;
            if (fault.Victim == FaultVictim.Agent)
                Process.GetCurrentProcess().Kill();
            if (inner.State.Machine is { } adoption && JsonDocument.Parse(adoption).RootElement.TryGetProperty("pid", out var pid))
                Process.GetProcessById(pid.GetInt32()).Kill();
        }
    }
}
