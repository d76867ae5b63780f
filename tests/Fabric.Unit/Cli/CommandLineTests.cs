using System.Text.Json;
using Fabric.Cli;
using Fabric.Core;
using Fabric.Migration;
using Fabric.Unit.Api;
using Fabric.Wire.Api;
using Xunit;

namespace Fabric.Unit.Cli;

/// <summary>Whole commands against the real HTTP API over fakes: parsing, output on stdout, talk on stderr, exit codes.</summary>
public sealed class CommandLineTests : IAsyncLifetime
{
    private readonly FakeControlPlane _control = new();
    private ApiServer _server = null!;

    public async Task InitializeAsync() => _server = await ApiServer.StartAsync(_control);

    public async Task DisposeAsync() => await _server.DisposeAsync();

    [Fact]
    public async Task A_migrations_json_has_exactly_the_promised_names_with_nulls_present()
    {
        var run = await CliRun.Async(_server.Url, "migration", "show", "0192f0", "-o", "json");
        Assert.Equal(ExitCode.Done, run.Code);
        using var json = JsonDocument.Parse(run.Out);
        Names(
            json.RootElement, "id", "vm", "source", "destination", "mode", "state", "reason", "error", "started_at", "total_ms", "downtime_ms", "resume_ms", "rounds", "memory", "faults",
            "disk", "verified", "verify", "epoch", "progress", "batch");
        Names(json.RootElement.GetProperty("memory"), "total_bytes", "wire_bytes", "pages_sent", "pages_zero", "pages_resent", "pages_from_source", "pages_packed", "pages_delta");
        Names(json.RootElement.GetProperty("faults"), "network", "minor", "median_us", "p99_us", "stall_ms", "service_median_us");
        Assert.Equal(JsonValueKind.Null, json.RootElement.GetProperty("disk").ValueKind);
        Assert.Equal(JsonValueKind.Null, json.RootElement.GetProperty("error").ValueKind);
        Assert.Equal("pre-copy", json.RootElement.GetProperty("mode").GetString());
    }

    [Fact]
    public async Task Disk_and_error_have_the_promised_names_too()
    {
        _control.Migrations[0] = Samples.Migration("failed") with { Error = new ErrorBodyShort("corrupt", "differs"), Disk = new DiskReport(1, 2, 3, 4) };
        var run = await CliRun.Async(_server.Url, "migration", "show", "0192f0", "-o", "json");
        using var json = JsonDocument.Parse(run.Out);
        Names(json.RootElement.GetProperty("disk"), "total_bytes", "wire_bytes", "blocks_pushed", "blocks_pulled");
        Names(json.RootElement.GetProperty("error"), "code", "message");
    }

    [Theory]
    [InlineData("table", "NAME   HOST   STATE    MACHINE     MEMORY  VCPUS  MIGRATION\nweb-1  alpha  running  qemu     256.0 MiB      1  -\n")]
    [InlineData("name", "web-1\n")]
    [InlineData("wide", "NAME   HOST   STATE    MACHINE     MEMORY  VCPUS  MIGRATION  ACCEL  EPOCH  PID   BALLOON\nweb-1  alpha  running  qemu     256.0 MiB      1  -          tcg    3      4242  off\n")]
    public async Task Lists_are_plain_aligned_lines_when_stdout_is_no_terminal(string format, string expected)
    {
        var run = await CliRun.Async(_server.Url, "vm", "list", "-o", format);
        Assert.Equal(expected, run.Out);
        Assert.Equal("", run.Talk);
        Assert.DoesNotContain('\u001b', run.Out);
    }

    [Fact]
    public async Task A_list_as_json_is_an_array_and_as_yaml_the_same()
    {
        var json = await CliRun.Async(_server.Url, "vm", "list", "-o", "json");
        using var parsed = JsonDocument.Parse(json.Out);
        Assert.Equal("web-1", parsed.RootElement[0].GetProperty("name").GetString());
        Assert.Equal(JsonValueKind.Null, parsed.RootElement[0].GetProperty("migration").ValueKind);

        var yaml = await CliRun.Async(_server.Url, "vm", "list", "-o", "yaml");
        Assert.StartsWith("- name: web-1\n  host: alpha\n", yaml.Out, StringComparison.Ordinal);
        Assert.Contains("memory_bytes: 268435456", yaml.Out, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("host", "list")]
    [InlineData("host", "show", "alpha")]
    [InlineData("host", "cordon", "alpha")]
    [InlineData("host", "uncordon", "alpha")]
    [InlineData("vm", "show", "web-1")]
    [InlineData("vm", "console", "web-1")]
    [InlineData("vm", "delete", "web-1", "--force")]
    [InlineData("migrate", "web-1", "--to", "beta", "--mode", "hybrid", "--bandwidth", "100M", "--verify", "full", "--reason", "test")]
    [InlineData("migrate", "web-1", "--to", "beta", "--wait")]
    [InlineData("migration", "list")]
    [InlineData("migration", "watch", "0192f0")]
    [InlineData("migration", "abort", "0192f0", "--reason", "no more")]
    [InlineData("evacuate", "alpha", "--parallel", "2", "--wait")]
    [InlineData("evacuate", "alpha", "--dry-run")]
    [InlineData("evacuation", "list")]
    [InlineData("evacuation", "show", "0192f0c0beef")]
    [InlineData("down")]
    public async Task Every_command_works(params string[] arguments)
    {
        var run = await CliRun.Async(_server.Url, arguments);
        Assert.True(run.Code == ExitCode.Done, $"{run.Code}\n{run.Out}\n{run.Talk}");
    }

    [Theory]
    [InlineData("vm", "create")]
    [InlineData("vm", "create", "A", "--memory", "256M", "--kernel", "/k", "--on", "alpha")]
    [InlineData("vm", "create", "a", "--memory", "lots", "--kernel", "/k", "--on", "alpha")]
    [InlineData("vm", "create", "a", "--memory", "256M", "--on", "alpha")]
    [InlineData("vm", "create", "a", "--memory", "256M", "--kernel", "/k")]
    [InlineData("vm", "create", "a", "--memory", "256M", "--kernel", "/k", "--on", "alpha", "--workload", "idle")]
    [InlineData("vm", "create", "a", "--memory", "256M", "--kernel", "/k", "--on", "alpha", "--disk", "/d,private")]
    [InlineData("migrate", "web-1")]
    [InlineData("migrate", "web-1", "--to", "beta", "--mode", "teleport")]
    [InlineData("migrate", "web-1", "--to", "beta", "--max-downtime", "0")]
    [InlineData("migrate", "web-1", "--to", "beta", "--wait", "--timeout", "0")]
    [InlineData("vm", "list", "-o", "xml")]
    [InlineData("vm", "liste")]
    [InlineData("demo", "--hosts", "2")]
    [InlineData("--api", "not a url", "vm", "list")]
    [InlineData("--server", "http://127.0.0.1:1,ftp://127.0.0.1:2", "vm", "list")]
    public async Task Wrong_usage_ends_with_2_and_a_reason(params string[] arguments)
    {
        var run = await CliRun.Async(_server.Url, arguments);
        Assert.True(run.Code == ExitCode.Usage, $"{run.Code}\n{run.Talk}");
        Assert.StartsWith("error: ", run.Talk, StringComparison.Ordinal);
        Assert.Equal("", run.Out);
    }

    [Theory]
    [InlineData(ErrorCodes.NotFound, ExitCode.Failed)]
    [InlineData(ErrorCodes.Conflict, ExitCode.Failed)]
    [InlineData(ErrorCodes.InvalidArgument, ExitCode.Usage)]
    [InlineData(ErrorCodes.RefusedBySafety, ExitCode.Refused)]
    [InlineData(ErrorCodes.RefusedByEpoch, ExitCode.Refused)]
    [InlineData(ErrorCodes.DeadlineExceeded, ExitCode.TimedOut)]
    public async Task The_servers_refusal_is_shown_whole_and_decides_the_exit_code(string code, int expected)
    {
        _control.Fail = new FabricException(code, "It is so.", "Do this.");
        var run = await CliRun.Async(_server.Url, "vm", "list");
        Assert.Equal(expected, run.Code);
        Assert.Equal($"error: It is so.\n  Do this.\n  [{code}]\n", run.Talk);
    }

    [Theory]
    [InlineData("completed", true, ExitCode.Done)]
    [InlineData("completed", false, ExitCode.Failed)]
    [InlineData("failed", null, ExitCode.Failed)]
    [InlineData("aborted", null, ExitCode.Failed)]
    [InlineData("needs-fencing", null, ExitCode.Failed)]
    public async Task Waiting_for_a_move_ends_with_its_outcome(string state, bool? verified, int expected)
    {
        _control.Migrations[0] = Samples.Migration(state) with { Verified = verified };
        var run = await CliRun.Async(_server.Url, "migrate", "web-1", "--to", "beta", "--wait");
        Assert.Equal(expected, run.Code);
    }

    [Theory]
    [InlineData("done", ExitCode.Done)]
    [InlineData("partly-done", ExitCode.PartlyDone)]
    [InlineData("failed", ExitCode.Failed)]
    public async Task Waiting_for_an_evacuation_ends_with_its_outcome(string state, int expected)
    {
        _control.Evacuations[0] = Samples.Evacuation(state);
        var run = await CliRun.Async(_server.Url, "evacuate", "alpha", "--wait");
        Assert.Equal(expected, run.Code);
    }

    [Fact]
    public async Task A_host_is_shown_with_what_it_does_and_who_says_so()
    {
        var run = await CliRun.Async(_server.Url, "host", "show", "alpha");
        foreach (string part in new[] { "7f6b7ad9", "1.0 GiB used of 4.0 GiB", "web-1  running  may run, epoch 3", "web-2  from beta  pushing", "control-2", "127.0.0.1:7201" })
            Assert.Contains(part, run.Out, StringComparison.Ordinal);
        var json = await CliRun.Async(_server.Url, "host", "show", "alpha", "-o", "json");
        using var report = JsonDocument.Parse(json.Out);
        var details = report.RootElement.GetProperty("details");
        Names(details, "since", "incarnation", "memory_used_bytes", "cordon", "machines", "moves", "answered_by");
        Names(details.GetProperty("cordon"), "at", "reason");
        Names(details.GetProperty("machines")[0], "vm", "state", "owner", "epoch", "process_id", "memory_bytes");
        Names(details.GetProperty("moves")[0], "migration", "vm", "direction", "peer", "phase");
    }

    [Fact]
    public async Task A_cordon_is_given_its_reason()
    {
        Assert.Equal(ExitCode.Done, (await CliRun.Async(_server.Url, "host", "cordon", "alpha", "--reason", "new disks")).Code);
        Assert.Equal("new disks", _control.CordonReason);
        Assert.Equal(ExitCode.Done, (await CliRun.Async(_server.Url, "host", "cordon", "alpha")).Code);
        Assert.Null(_control.CordonReason);
    }

    [Theory]
    [InlineData("web-1", ExitCode.Done, "adopted", "beta ")]
    [InlineData("split", ExitCode.Refused, "refused", "alpha")]
    public async Task A_repair_shows_what_every_host_says_and_its_outcome_decides_the_exit_code(string vm, int expected, string outcome, string host)
    {
        var run = await CliRun.Async(_server.Url, "migration", "repair", vm);
        Assert.Equal(expected, run.Code);
        Assert.Contains(outcome, run.Talk, StringComparison.Ordinal);
        Assert.Contains(host, run.Out, StringComparison.Ordinal);
        var json = await CliRun.Async(_server.Url, "migration", "repair", vm, "-o", "json");
        Assert.Equal(expected, json.Code);
        using var report = JsonDocument.Parse(json.Out);
        Names(report.RootElement, "vm", "outcome", "error", "owner", "epoch", "ended", "hosts");
        Names(report.RootElement.GetProperty("hosts")[0], "host", "answered", "error", "owner", "state", "epoch", "process_id", "outgoing", "incoming");
    }

    [Fact]
    public async Task Ctrl_c_while_waiting_detaches_and_says_how_to_come_back()
    {
        _control.Migrations[0] = Samples.Migration("pushing") with { Verified = null };
        using var interrupt = new CancellationTokenSource();
        var running = CliRun.Async(_server.Url, interrupt.Token, "migrate", "web-1", "--to", "beta", "--wait");

        // It follows the move: from here on Ctrl-C means to detach.
        await _control.Waited.Task.WaitAsync(TimeSpan.FromSeconds(30));
        await interrupt.CancelAsync();
        var run = await running;
        Assert.Equal(ExitCode.Interrupted, run.Code);
        Assert.Contains("fabric migration watch 0192f0c0ffee", run.Talk, StringComparison.Ordinal);
        Assert.Contains("fabric migration abort 0192f0c0ffee", run.Talk, StringComparison.Ordinal);
        Assert.Null(_control.AbortReason);
    }

    [Fact]
    public async Task A_watched_move_that_lasts_too_long_ends_with_5_and_goes_on()
    {
        _control.Migrations[0] = Samples.Migration("pushing") with { Verified = null };
        var run = await CliRun.Async(_server.Url, "migration", "watch", "0192f0", "--timeout", "1");
        Assert.Equal(ExitCode.TimedOut, run.Code);
        Assert.Contains("fabric migration watch 0192f0c0ffee", run.Talk, StringComparison.Ordinal);
        Assert.Equal("", run.Out);
    }

    [Fact]
    public async Task Without_a_cluster_it_says_how_to_start_one()
    {
        var run = await CliRun.Async(null, "vm", "list");
        Assert.Equal(ExitCode.Failed, run.Code);
        Assert.Contains("fabric up --detach", run.Talk, StringComparison.Ordinal);
    }

    [Fact]
    public async Task A_dead_api_is_unreachable_and_says_so()
    {
        var run = await CliRun.Async(new Uri("http://127.0.0.1:1"), "vm", "list");
        Assert.Equal(ExitCode.Failed, run.Code);
        Assert.Contains("[unreachable]", run.Talk, StringComparison.Ordinal);
    }

    [Fact]
    public async Task Migrating_passes_every_option_on()
    {
        await CliRun.Async(
            _server.Url, "migrate", "web-1", "--to", "beta", "--mode", "post-copy", "--max-downtime", "50", "--bandwidth", "64M", "--verify", "full", "--connections", "4", "--order", "forward-multi-lru", "--pivots", "12", "--balloon", "auto", "--compress", "off",
            "--reason", "r");
        Assert.Equal(
            new MigrationOptions { Mode = MigrationMode.PostCopy, MaxDowntimeMs = 50, BandwidthBytesPerSecond = 64 * ByteSize.Mebi, Verify = VerifyLevel.Full, BulkConnections = 4, Reason = "r", Order = PageOrder.ForwardMultiLru, Pivots = 12, Balloon = BalloonUse.Auto, Compress = Compression.Off },
            _control.Migrated!.Options);
        Assert.NotNull(_control.Migrated.RequestId);
    }

    [Theory]
    [InlineData("--order", "sideways", "--order 'sideways'", "dual-multi-lru")]
    [InlineData("--balloon", "on", "--balloon 'on'", "off, auto")]
    [InlineData("--pivots", "0", "0 pivots", "1 to 64")]
    [InlineData("--pivots", "65", "65 pivots", "1 to 64")]
    public async Task A_wrong_order_or_number_of_pivots_is_named_with_what_is_accepted(string option, string value, string named, string remedy)
    {
        var run = await CliRun.Async(_server.Url, "migrate", "web-1", "--to", "beta", option, value);
        Assert.NotEqual(ExitCode.Done, run.Code);
        Assert.Contains(named, run.Talk, StringComparison.Ordinal);
        Assert.Contains(remedy, run.Talk, StringComparison.Ordinal);
        Assert.Null(_control.Migrated);
    }

    private static void Names(JsonElement element, params string[] expected) => Assert.Equal(expected, element.EnumerateObject().Select(p => p.Name));
}
