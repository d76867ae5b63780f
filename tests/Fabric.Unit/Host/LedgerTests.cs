using System.Text;
using Fabric.Core;
using Fabric.Host.Ledger;
using Fabric.Migration;
using Fabric.Transfer;
using Xunit;

namespace Fabric.Unit.Host;

/// <summary>
/// The ledger is the agent's half of "one VM runs in one place". Proven here: what was appended is there after reopening, a torn end is cut
/// off, damage before the end is refused with the data kept, and no illegal record gets in.
/// </summary>
public sealed class LedgerTests : IDisposable
{
    private static readonly MigrationId M1 = new(new Guid("11111111-1111-7111-8111-111111111111"));
    private static readonly MigrationId M2 = new(new Guid("22222222-2222-7222-8222-222222222222"));
    private static readonly VmSpec Spec = new() { Name = VmName.Parse("web"), MemoryBytes = 64 * ByteSize.Mebi, Kernel = "/k" };
    private static readonly FabricError Why = new(ErrorCodes.Cancelled, "asked to");

    private readonly string _directory = Directory.CreateTempSubdirectory("fabric-ledger-").FullName;

    private string File1 => Path.Combine(_directory, "web.ledger");

    public void Dispose() => Directory.Delete(_directory, recursive: true);

    private static VmRecord.PushStarted Push(MigrationId m) => new(m, HostName.Parse("beta"), new DataEndpoint("127.0.0.1", 1), new Ticket("00"), MigrationOptions.Default);

    private static VmRecord.IncomingExpected Expect(MigrationId m, long epoch) => new(m, new Epoch(epoch), Spec, HostName.Parse("alpha"), new Ticket("00"), MigrationOptions.Default);

    [Fact]
    public void What_was_appended_is_there_after_reopening()
    {
        using (var ledger = LedgerFile.Open(File1))
        {
            ledger.Append(new VmRecord.Owned(new Epoch(1), Spec), new VmRecord.MachineStarted("{}"));
            ledger.Append(Push(M1));
            ledger.Append(new VmRecord.HandingOver(M1, new Epoch(2), MigrationMode.PreCopy));
            ledger.Append(new VmRecord.TokenSent(M1, new Epoch(2)));
        }

        using var again = LedgerFile.Open(File1);
        Assert.False(again.State.Owner);
        Assert.Equal(SourcePhase.TokenSent, again.State.Outgoing!.Phase);
        Assert.Equal(new Epoch(2), again.State.HighestRunEpoch);
        Assert.Equal(new Epoch(1), again.State.RunEpoch);
    }

    [Fact]
    public void Every_cut_of_the_last_line_leaves_the_lines_before_it()
    {
        using (var ledger = LedgerFile.Open(File1))
        {
            ledger.Append(new VmRecord.Owned(new Epoch(1), Spec));
            ledger.Append(Push(M1));
        }

        byte[] whole = System.IO.File.ReadAllBytes(File1);
        int first = Array.IndexOf(whole, (byte)'\n') + 1;
        for (int length = first; length < whole.Length; length++)
        {
            System.IO.File.WriteAllBytes(File1, whole[..length]);
            using var cut = LedgerFile.Open(File1);
            Assert.True(cut.State.Owner);
            Assert.Null(cut.State.Outgoing);
            cut.Append(Push(M2));
            Assert.Equal(M2, cut.State.Outgoing!.Migration);
        }
    }

    [Fact]
    public void Damage_before_the_end_is_refused_and_the_file_is_kept()
    {
        using (var ledger = LedgerFile.Open(File1))
        {
            ledger.Append(new VmRecord.Owned(new Epoch(1), Spec));
            ledger.Append(Push(M1));
        }

        byte[] bytes = System.IO.File.ReadAllBytes(File1);
        bytes[20] ^= 1;
        System.IO.File.WriteAllBytes(File1, bytes);
        var refused = Assert.Throws<FabricException>(() => LedgerFile.Open(File1));
        Assert.Equal(ErrorCodes.Corrupt, refused.Error.Code);
        Assert.Contains("Line 1", refused.Error.Message, StringComparison.Ordinal);
        Assert.Equal(bytes, System.IO.File.ReadAllBytes(File1));
    }

    [Fact]
    public void A_long_ledger_is_compacted_and_says_the_same()
    {
        VmLedgerState before;
        using (var ledger = LedgerFile.Open(File1))
        {
            ledger.Append(new VmRecord.Owned(new Epoch(1), Spec));
            for (int i = 0; i < 3000; i++)
                ledger.Append(new VmRecord.Answered(new CommandId(new Guid(i, 0, 0, new byte[8])), Why));
            before = ledger.State;
        }

        long size = new FileInfo(File1).Length;
        using var again = LedgerFile.Open(File1);
        Assert.True(new FileInfo(File1).Length < size / 10);
        Assert.Equal(before.Answers, again.State.Answers);
        Assert.Equal(VmLedgerState.Remembered, again.State.Answers.Count);
        Assert.True(again.State.Owner);
    }

    [Fact]
    public void A_record_that_does_not_follow_is_not_written()
    {
        using var ledger = LedgerFile.Open(File1);
        ledger.Append(new VmRecord.Owned(new Epoch(1), Spec));
        long length = new FileInfo(File1).Length;
        Assert.Throws<LedgerContradictionException>(() => ledger.Append(new VmRecord.ShardSeen(new Epoch(9)), new VmRecord.TokenSent(M1, new Epoch(2))));
        Assert.Equal(length, new FileInfo(File1).Length);
        Assert.Equal(Epoch.None, ledger.State.ShardEpoch);
    }

    [Fact]
    public void Accepted_and_refused_exclude_each_other()
    {
        var expected = VmLedgerState.Empty.Apply(Expect(M1, 2));
        var accepted = expected.Apply(new VmRecord.Accepted(M1, new Epoch(2), HandOverKind.Pull));
        Assert.Throws<LedgerContradictionException>(() => accepted.Apply(new VmRecord.Refused(M1, new Epoch(2), "late")));
        Assert.True(accepted.Owner);

        var refused = expected.Apply(new VmRecord.Refused(M1, new Epoch(2), "first"));
        Assert.Throws<LedgerContradictionException>(() => refused.Apply(new VmRecord.Accepted(M1, new Epoch(2), HandOverKind.Pull)));
        Assert.Throws<LedgerContradictionException>(() => refused.Apply(Expect(M1, 3)));
        Assert.False(refused.Owner);
    }

    [Fact]
    public void A_burnt_epoch_is_never_handed_over_again()
    {
        var state = VmLedgerState.Empty.Apply(new VmRecord.Owned(new Epoch(1), Spec)).Apply(Push(M1))
            .Apply(new VmRecord.HandingOver(M1, new Epoch(2), MigrationMode.PreCopy)).Apply(new VmRecord.Withdrawn(M1, Why)).Apply(Push(M2));
        Assert.Throws<LedgerContradictionException>(() => state.Apply(new VmRecord.HandingOver(M2, new Epoch(2), MigrationMode.PreCopy)));
        Assert.True(state.Apply(new VmRecord.HandingOver(M2, new Epoch(3), MigrationMode.PreCopy)).Owner);
    }

    /// <summary>Every record kind, applied in every phase: exactly the listed ones are legal. A new kind without a row fails here.</summary>
    [Fact]
    public void The_table_of_legal_records_is_exactly_this()
    {
        var phases = new Dictionary<string, VmLedgerState>(StringComparer.Ordinal);
        var owner = VmLedgerState.Empty.Apply(new VmRecord.Owned(new Epoch(1), Spec));
        phases["nothing"] = VmLedgerState.Empty;
        phases["owner"] = owner;
        phases["pushing"] = owner.Apply(Push(M1));
        phases["handing-over"] = phases["pushing"].Apply(new VmRecord.HandingOver(M1, new Epoch(2), MigrationMode.PostCopy));
        phases["token-sent"] = phases["handing-over"].Apply(new VmRecord.TokenSent(M1, new Epoch(2)));
        phases["handed-over"] = phases["token-sent"].Apply(new VmRecord.HandedOver(M1, new Epoch(2)));
        phases["drained"] = phases["handed-over"].Apply(new VmRecord.Drained(M1));
        phases["released"] = phases["drained"].Apply(new VmRecord.Released(M1));
        phases["expected"] = VmLedgerState.Empty.Apply(Expect(M1, 2));
        phases["accepted"] = phases["expected"].Apply(new VmRecord.Accepted(M1, new Epoch(2), HandOverKind.Pull));
        phases["complete"] = phases["accepted"].Apply(new VmRecord.PullCompleted(M1, null));
        phases["refused"] = phases["expected"].Apply(new VmRecord.Refused(M1, new Epoch(2), "x"));
        phases["lost"] = phases["accepted"].Apply(new VmRecord.IncomingLost(M1, "x"));
        phases["owes"] = owner.Apply(Push(M1) with { Lent = 1 }).Apply(new VmRecord.PushEnded(M1, Why));

        var records = new Dictionary<VmRecord, string>
        {
            [new VmRecord.Owned(new Epoch(5), Spec)] = "nothing released refused lost",
            [Push(M2)] = "owner complete owes",
            [new VmRecord.PushEnded(M1, Why)] = "pushing",
            [new VmRecord.MemoryReturned(M1)] = "owes",
            [new VmRecord.HandingOver(M1, new Epoch(5), MigrationMode.PreCopy)] = "pushing",
            [new VmRecord.TokenSent(M1, new Epoch(2))] = "handing-over",
            [new VmRecord.Withdrawn(M1, Why)] = "handing-over token-sent",
            [new VmRecord.HandedOver(M1, new Epoch(2))] = "token-sent",
            [new VmRecord.TakenBack(M1, new Epoch(5))] = "token-sent",
            [new VmRecord.Drained(M1)] = "handed-over",
            [new VmRecord.Released(M1)] = "token-sent handed-over drained",
            [Expect(M2, 5)] = "nothing released refused lost",
            [new VmRecord.Accepted(M1, new Epoch(2), HandOverKind.Pull)] = "expected",
            [new VmRecord.PullCompleted(M1, true)] = "accepted",
            [new VmRecord.IncomingLost(M1, "x")] = "accepted",
            [new VmRecord.Refused(M1, new Epoch(2), "x")] = "nothing owner pushing handing-over token-sent handed-over drained released expected refused owes",
            [new VmRecord.Deleted()] = "nothing owner released complete refused lost owes",
        };
        var difference = new StringBuilder();
        foreach (var (record, legal) in records)
        {
            string actual = string.Join(' ', phases.Where(p => IsLegal(p.Value, record)).Select(p => p.Key));
            if (actual != legal)
                difference.AppendLine($"{record.GetType().Name}: listed '{legal}', really '{actual}'");
        }

        Assert.Equal("", difference.ToString());
        var always = new[] { typeof(VmRecord.ShardSeen), typeof(VmRecord.Answered), typeof(VmRecord.MachineStarted), typeof(VmRecord.MachineGone), typeof(VmRecord.Summary) };
        var kinds = typeof(VmRecord).Assembly.GetTypes().Where(t => t.IsSubclassOf(typeof(VmRecord)));
        Assert.Empty(kinds.Except(records.Keys.Select(r => r.GetType())).Except(always));
    }

    private static bool IsLegal(VmLedgerState state, VmRecord record)
    {
        try
        {
            state.Apply(record);
            return true;
        }
        catch (LedgerContradictionException)
        {
            return false;
        }
    }
}
