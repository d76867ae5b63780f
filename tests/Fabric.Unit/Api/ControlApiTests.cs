using System.Net;
using System.Net.Http.Json;
using System.Text;
using System.Text.Json;
using Fabric.Core;
using Fabric.Wire.Agent;
using Fabric.Wire.Api;
using Xunit;

namespace Fabric.Unit.Api;

/// <summary>Every endpoint of the operators' API over real sockets; the control plane behind it is a fake that records what arrives.</summary>
public sealed class ControlApiTests : IAsyncLifetime
{
    private readonly FakeControlPlane _control = new();
    private ApiServer _server = null!;

    public async Task InitializeAsync() => _server = await ApiServer.StartAsync(_control);

    public async Task DisposeAsync() => await _server.DisposeAsync();

    [Theory]
    [InlineData("/v1/hosts", "$.items[1].name", "beta")]
    [InlineData("/v1/hosts/alpha", "$.name", "alpha")]
    [InlineData("/v1/vms", "$.items[0].spec.memory_bytes", "268435456")]
    [InlineData("/v1/vms/web-1", "$.host", "alpha")]
    [InlineData("/v1/vms/web-1/console?offset=6", "$.text", "ready\n")]
    [InlineData("/v1/migrations", "$.items[0].mode", "pre-copy")]
    [InlineData("/v1/migrations/0192f0", "$.verify", "full")]
    [InlineData("/v1/evacuations", "$.items[0].items[0].state", "moved")]
    [InlineData("/v1/evacuations/0192f0c0beef", "$.host", "alpha")]
    [InlineData("/v1/changes?after=3&wait_ms=10", "$.version", "7")]
    public async Task Reads_answer_typed_json(string path, string where, string expected)
    {
        using var json = JsonDocument.Parse(await _server.Http.GetStringAsync(new Uri(path, UriKind.Relative)));
        Assert.Equal(expected, At(json.RootElement, where));
    }

    [Fact]
    public async Task A_registration_reaches_the_control_plane()
    {
        var registration = new HostRegistration(
            HostName.Parse("gamma"), Guid.NewGuid(), new Uri("http://127.0.0.1:7"), new Fabric.Migration.DataEndpoint("127.0.0.1", 8), 1024, 2, [MachineKind.Qemu], "0.1.0");
        using var content = JsonContent.Create(registration, AgentJson.Default.HostRegistration);
        using var answer = await _server.Http.PostAsync(new Uri("/v1/hosts", UriKind.Relative), content);
        Assert.Equal(HttpStatusCode.OK, answer.StatusCode);
        Assert.Empty((await answer.Content.ReadFromJsonAsync(AgentJson.Default.RegistrationAnswer))!.ControlUrls);
        Assert.Equal(registration.Incarnation, Assert.Single(_control.Registered).Incarnation);
    }

    [Theory]
    [InlineData("", null, HttpStatusCode.OK)] // an agent that is older than sites
    [InlineData(""","site":null""", null, HttpStatusCode.OK)]
    [InlineData(""","site":"east","colour":"red" """, "east", HttpStatusCode.OK)] // one that is newer
    [InlineData(""","site":"EAST" """, null, HttpStatusCode.BadRequest)]
    [InlineData(""","site":7""", null, HttpStatusCode.BadRequest)]
    public async Task A_host_may_name_its_site(string rest, string? site, HttpStatusCode expected)
    {
        string body = """{"name":"gamma","incarnation":"7f6b7ad9-2f39-4e4b-8f0f-0f8a8f1f1f1f","agent_url":"http://127.0.0.1:7","data":{"address":"127.0.0.1","port":1},"memory_bytes":1,"cpus":1,"machines":[],"version":"1" """ + rest + "}";
        using var content = new StringContent(body, System.Text.Encoding.UTF8, "application/json");
        using var answer = await _server.Http.PostAsync(new Uri("/v1/hosts", UriKind.Relative), content);
        Assert.Equal(expected, answer.StatusCode);
        if (expected == HttpStatusCode.OK)
            Assert.Equal(site, Assert.Single(_control.Registered).Site?.Value);
    }

    [Fact]
    public async Task A_registration_from_another_machine_is_refused()
    {
        const string body = """{"name":"evil","incarnation":"7f6b7ad9-2f39-4e4b-8f0f-0f8a8f1f1f1f","agent_url":"http://169.254.169.254/latest","data":{"address":"10.0.0.1","port":1},"memory_bytes":1,"cpus":1,"machines":[],"version":"1"}""";
        var error = await RefusedAsync(HttpMethod.Post, "/v1/hosts", body, HttpStatusCode.PreconditionFailed);
        Assert.Equal(ErrorCodes.RefusedBySafety, error.Code);
        Assert.Empty(_control.Registered);
    }

    [Fact]
    public async Task Cordon_and_uncordon_say_the_new_state()
    {
        foreach (var (verb, state) in new[] { ("cordon", "cordoned"), ("uncordon", "ready") })
        {
            using var answer = await _server.Http.PostAsync(new Uri($"/v1/hosts/alpha/{verb}", UriKind.Relative), null);
            var host = await answer.Content.ReadFromJsonAsync(ApiJson.Default.HostReport);
            Assert.Equal(state, host!.State);
        }
    }

    [Fact]
    public async Task Creating_a_vm_answers_201_with_its_place()
    {
        using var answer = await SendAsync(HttpMethod.Post, "/v1/vms", """{"spec":{"name":"db-1","memory_bytes":268435456,"kernel":"/k"},"host":"beta"}""");
        Assert.Equal(HttpStatusCode.Created, answer.StatusCode);
        Assert.Equal("/v1/vms/db-1", answer.Headers.Location!.ToString());
    }

    [Fact]
    public async Task Deleting_passes_force_on()
    {
        using var answer = await SendAsync(HttpMethod.Delete, "/v1/vms/web-1?force=true", null);
        Assert.Equal(HttpStatusCode.NoContent, answer.StatusCode);
        Assert.True(_control.Forced);
    }

    [Fact]
    public async Task Migrating_answers_202_and_passes_the_options_on()
    {
        using var answer = await SendAsync(HttpMethod.Post, "/v1/migrations", """{"vm":"web-1","destination":"beta","options":{"mode":"hybrid","verify":"full"},"request_id":null}""");
        Assert.Equal(HttpStatusCode.Accepted, answer.StatusCode);
        Assert.Equal(Fabric.Migration.MigrationMode.Hybrid, _control.Migrated!.Options.Mode);
        Assert.Equal(300, _control.Migrated.Options.MaxDowntimeMs);
    }

    [Fact]
    public async Task Aborting_passes_the_reason_on()
    {
        using var answer = await SendAsync(HttpMethod.Post, "/v1/migrations/0192f0/abort", """{"reason":"maintenance over"}""");
        Assert.Equal(HttpStatusCode.OK, answer.StatusCode);
        Assert.Equal("maintenance over", _control.AbortReason);
    }

    [Theory]
    [InlineData("true", HttpStatusCode.OK)]
    [InlineData("false", HttpStatusCode.Accepted)]
    public async Task An_evacuation_is_accepted_and_a_dry_run_is_answered(string dryRun, HttpStatusCode expected)
    {
        using var answer = await SendAsync(HttpMethod.Post, "/v1/evacuations", $$$"""{"host":"alpha","parallel":2,"dry_run":{{{dryRun}}},"options":{},"request_id":null}""");
        Assert.Equal(expected, answer.StatusCode);
    }

    [Theory]
    [InlineData(ErrorCodes.InvalidArgument, 400)]
    [InlineData(ErrorCodes.Malformed, 400)]
    [InlineData(ErrorCodes.NotFound, 404)]
    [InlineData(ErrorCodes.AlreadyExists, 409)]
    [InlineData(ErrorCodes.Ambiguous, 409)]
    [InlineData(ErrorCodes.Conflict, 409)]
    [InlineData(ErrorCodes.Incompatible, 409)]
    [InlineData(ErrorCodes.Cancelled, 409)]
    [InlineData(ErrorCodes.Lost, 410)]
    [InlineData(ErrorCodes.RefusedByEpoch, 412)]
    [InlineData(ErrorCodes.RefusedBySafety, 412)]
    [InlineData(ErrorCodes.Corrupt, 500)]
    [InlineData(ErrorCodes.MachineFailed, 500)]
    [InlineData(ErrorCodes.Native, 500)]
    [InlineData(ErrorCodes.Internal, 500)]
    [InlineData(ErrorCodes.Unsupported, 501)]
    [InlineData(ErrorCodes.Unreachable, 503)]
    [InlineData(ErrorCodes.NotHeld, 503)]
    [InlineData(ErrorCodes.Exhausted, 503)]
    [InlineData(ErrorCodes.Busy, 503)]
    [InlineData(ErrorCodes.StoreFailed, 503)]
    [InlineData(ErrorCodes.DeadlineExceeded, 504)]
    [InlineData(ErrorCodes.NotConverging, 409)]
    public async Task Each_code_has_its_status_and_the_whole_error_object(string code, int status)
    {
        _control.Fail = new FabricException(code, "what happened", "what to do");
        var error = await RefusedAsync(HttpMethod.Get, "/v1/vms", null, (HttpStatusCode)status);
        Assert.Equal((code, "what happened", "what to do"), (error.Code, error.Message, error.Hint));
        Assert.False(string.IsNullOrEmpty(error.Id));
    }

    [Fact]
    public async Task Every_code_that_exists_is_in_that_list()
    {
        var codes = typeof(ErrorCodes).GetFields().Select(f => (string)f.GetRawConstantValue()!).Order().ToList();
        var listed = typeof(ControlApiTests).GetMethod(nameof(Each_code_has_its_status_and_the_whole_error_object))!
            .GetCustomAttributesData().Where(a => a.AttributeType == typeof(InlineDataAttribute))
            .Select(a => (string)((IReadOnlyCollection<System.Reflection.CustomAttributeTypedArgument>)a.ConstructorArguments[0].Value!).First().Value!).Order().ToList();
        Assert.Equal(codes, listed);
        await Task.CompletedTask;
    }

    [Fact]
    public async Task An_unexpected_failure_shows_no_insides()
    {
        _control.Fail = new InvalidOperationException("secret detail of " + nameof(FakeControlPlane));
        using var answer = await SendAsync(HttpMethod.Get, "/v1/vms", null);
        string text = await answer.Content.ReadAsStringAsync();
        Assert.Equal(HttpStatusCode.InternalServerError, answer.StatusCode);
        Assert.DoesNotContain("secret", text, StringComparison.Ordinal);
        Assert.DoesNotContain("   at ", text, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("GET", "/v1/vms/web-9", null, 404, "not-found")]
    [InlineData("GET", "/v1/vms/WEB", null, 400, "invalid-argument")]
    [InlineData("GET", "/v1/nothing", null, 404, "not-found")]
    [InlineData("PUT", "/v1/vms", "{}", 405, "invalid-argument")]
    [InlineData("GET", "/v1/migrations/..%2f..%2fetc", null, 400, "invalid-argument")]
    [InlineData("GET", "/v1/changes?after=x", null, 400, "invalid-argument")]
    [InlineData("GET", "/v1/changes?wait_ms=20001", null, 400, "invalid-argument")]
    [InlineData("GET", "/v1/vms/web-1/console?offset=-1", null, 400, "invalid-argument")]
    [InlineData("DELETE", "/v1/vms/web-1?force=maybe", null, 400, "invalid-argument")]
    [InlineData("POST", "/v1/vms", "", 400, "malformed")]
    [InlineData("POST", "/v1/vms", "null", 400, "malformed")]
    [InlineData("POST", "/v1/vms", "[]", 400, "malformed")]
    [InlineData("POST", "/v1/vms", "{\"spec\":{\"name\":\"a\"},\"host\":\"b\"}", 400, "malformed")]
    [InlineData("POST", "/v1/vms", "{\"spec\":{\"name\":\"a\",\"memory_bytes\":1048576,\"kernel\":\"/k\",\"colour\":1},\"host\":\"b\"}", 400, "malformed")]
    [InlineData("POST", "/v1/vms", "{\"spec\":{\"name\":\"a\",\"memory_bytes\":5,\"kernel\":\"/k\"},\"host\":\"b\"}", 400, "invalid-argument")]
    [InlineData("POST", "/v1/vms", "{\"spec\":{\"name\":\"a\",\"memory_bytes\":1048576,\"kernel\":\"/k\",\"disks\":[null]},\"host\":\"b\"}", 400, "invalid-argument")]
    [InlineData("POST", "/v1/vms", "{\"spec\":{\"name\":\"a\",\"memory_bytes\":1048576,\"kernel\":\"/k\",\"nics\":[null]},\"host\":\"b\"}", 400, "invalid-argument")]
    [InlineData("POST", "/v1/vms", "{\"spec\":{\"name\":\"a\",\"memory_bytes\":1048576,\"kernel\":\"/k\",\"machine\":77},\"host\":\"b\"}", 400, "invalid-argument")]
    [InlineData("POST", "/v1/migrations", "{\"vm\":\"a\",\"destination\":\"b\",\"options\":{\"mode\":99},\"request_id\":null}", 400, "invalid-argument")]
    [InlineData("POST", "/v1/migrations", "{\"vm\":\"a\",\"destination\":\"b\",\"options\":{\"max_downtime_ms\":0},\"request_id\":null}", 400, "invalid-argument")]
    [InlineData("POST", "/v1/migrations", "{\"vm\":\"a b\",\"destination\":\"b\",\"options\":{},\"request_id\":null}", 400, "malformed")]
    [InlineData("POST", "/v1/evacuations", "{\"host\":\"a\",\"parallel\":0,\"dry_run\":false,\"options\":{},\"request_id\":null}", 400, "invalid-argument")]
    public async Task Wrong_input_is_refused_by_name(string method, string path, string? body, int status, string code)
    {
        var error = await RefusedAsync(new HttpMethod(method), path, body, (HttpStatusCode)status);
        Assert.Equal(code, error.Code);
        Assert.DoesNotContain("Fabric.", error.Message, StringComparison.Ordinal);
    }

    [Fact]
    public async Task A_malformed_body_is_located()
    {
        var error = await RefusedAsync(HttpMethod.Post, "/v1/migrations", "{\n \"vm\": 5 }", HttpStatusCode.BadRequest);
        Assert.Contains("$.vm", error.Message, StringComparison.Ordinal);
        Assert.Contains("line 2", error.Message, StringComparison.Ordinal);
    }

    [Fact]
    public async Task What_a_web_page_could_send_is_refused()
    {
        using var form = new StringContent("{}", Encoding.UTF8, "text/plain");
        using var plain = await _server.Http.PostAsync(new Uri("/v1/vms", UriKind.Relative), form);
        Assert.Equal(HttpStatusCode.BadRequest, plain.StatusCode);

        using var scripted = new HttpRequestMessage(HttpMethod.Post, new Uri("/v1/hosts/alpha/cordon", UriKind.Relative));
        scripted.Headers.Add("Origin", "http://evil.example");
        using var fromScript = await _server.Http.SendAsync(scripted);
        Assert.Equal(HttpStatusCode.PreconditionFailed, fromScript.StatusCode);

        using var rebound = new HttpRequestMessage(HttpMethod.Get, new Uri("/v1/vms", UriKind.Relative));
        rebound.Headers.Host = "evil.example";
        using var fromName = await _server.Http.SendAsync(rebound);
        Assert.Equal(HttpStatusCode.PreconditionFailed, fromName.StatusCode);
    }

    private async Task<ErrorBody> RefusedAsync(HttpMethod method, string path, string? body, HttpStatusCode status)
    {
        using var answer = await SendAsync(method, path, body);
        string text = await answer.Content.ReadAsStringAsync();
        Assert.True(status == answer.StatusCode, $"{(int)answer.StatusCode}: {text}");
        return JsonSerializer.Deserialize(text, AgentJson.Default.ErrorBody)!;
    }

    private async Task<HttpResponseMessage> SendAsync(HttpMethod method, string path, string? body)
    {
        using var request = new HttpRequestMessage(method, new Uri(path, UriKind.Relative));
        if (body is not null)
            request.Content = new StringContent(body, Encoding.UTF8, "application/json");
        return await _server.Http.SendAsync(request);
    }

    private static string At(JsonElement root, string path)
    {
        foreach (string step in path.Split('.').Skip(1))
        {
            string[] parts = step.Split('[', ']');
            root = root.GetProperty(parts[0]);
            if (parts.Length > 1)
                root = root[int.Parse(parts[1])];
        }

        return root.ToString();
    }
}
