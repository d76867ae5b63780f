using System.Net;
using System.Net.Http.Json;
using System.Text;
using System.Text.Json;
using Fabric.Core;
using Fabric.Migration;
using Fabric.Wire.Agent;
using Microsoft.AspNetCore.Server.Kestrel.Core;
using Xunit;

namespace Fabric.Unit.Api;

/// <summary>The agents' API over real sockets: HTTP/2 with prior knowledge as control nodes speak it, and what must not get through.</summary>
public sealed class AgentApiTests
{
    private readonly FakeHostAgent _agent = new();

    private static CommandHeader Header { get; } = new(new CommandId(Guid.NewGuid()), VmName.Parse("web-1"), new Epoch(2), new Epoch(1));

    [Fact]
    public async Task Commands_facts_and_consoles_go_over_http2()
    {
        await using var server = await ApiServer.StartAsync(_agent, HttpProtocols.Http2);
        server.Http.DefaultRequestVersion = HttpVersion.Version20;
        server.Http.DefaultVersionPolicy = HttpVersionPolicy.RequestVersionExact;
        using var content = JsonContent.Create(new DeleteVm(Header), AgentJson.Default.AgentCommand);
        using var answer = await server.Http.PostAsync(new Uri("/agent/v1/commands", UriKind.Relative), content);
        var result = await answer.Content.ReadFromJsonAsync(AgentJson.Default.CommandResult);
        Assert.Equal(Header.Id, result!.Id);
        Assert.Equal(new DeleteVm(Header), Assert.Single(_agent.Commands));

        var facts = await server.Http.GetFromJsonAsync(new Uri("/agent/v1/facts?after=4&wait_ms=1500", UriKind.Relative), AgentJson.Default.HostFacts);
        Assert.Equal(9, facts!.Version);
        Assert.Equal((4, TimeSpan.FromMilliseconds(1500)), _agent.Asked);
        Assert.Equal("boot\n", await server.Http.GetStringAsync(new Uri("/agent/v1/vms/web-1/console", UriKind.Relative)));
    }

    [Fact]
    public async Task A_refusal_is_an_answer_not_a_failure()
    {
        _agent.Refusal = new FabricError(ErrorCodes.RefusedByEpoch, "older than 5");
        await using var server = await ApiServer.StartAsync(_agent);
        using var content = JsonContent.Create(new DeleteVm(Header), AgentJson.Default.AgentCommand);
        using var answer = await server.Http.PostAsync(new Uri("/agent/v1/commands", UriKind.Relative), content);
        Assert.Equal(HttpStatusCode.OK, answer.StatusCode);
        Assert.Equal(_agent.Refusal, (await answer.Content.ReadFromJsonAsync(AgentJson.Default.CommandResult))!.Error);
    }

    [Fact]
    public async Task An_unknown_vms_console_is_not_found()
    {
        await using var server = await ApiServer.StartAsync(_agent);
        using var answer = await server.Http.GetAsync(new Uri("/agent/v1/vms/web-9/console", UriKind.Relative));
        Assert.Equal(HttpStatusCode.NotFound, answer.StatusCode);
        Assert.Equal(ErrorCodes.NotFound, (await answer.Content.ReadFromJsonAsync(AgentJson.Default.ErrorBody))!.Code);
    }

    [Theory]
    [InlineData("""{"kind":"format-disk","header":{}}""")]
    [InlineData("""{"header":{}}""")]
    [InlineData("""{"kind":"delete-vm"}""")]
    [InlineData("""{"kind":"delete-vm","header":null}""")]
    [InlineData("""{"kind":"delete-vm","header":{"id":{"value":"x"},"vm":"a","shard_epoch":1,"run_epoch":1}}""")]
    [InlineData("""{"kind":"hand-over","header":{"id":{"value":"7f6b7ad9-2f39-4e4b-8f0f-0f8a8f1f1f1f"},"vm":"a","shard_epoch":1,"run_epoch":1},"mode":"auto"}""")]
    [InlineData("""{"kind":"serve-pull","header":{"id":{"value":"7f6b7ad9-2f39-4e4b-8f0f-0f8a8f1f1f1f"},"vm":"a","shard_epoch":1,"run_epoch":1},"endpoint":{"address":"h","port":1},"ticket":{"hex":"abc"}}""")]
    [InlineData("""{"kind":"create-vm","header":{"id":{"value":"7f6b7ad9-2f39-4e4b-8f0f-0f8a8f1f1f1f"},"vm":"a","shard_epoch":1,"run_epoch":1},"spec":{"name":"b","memory_bytes":1048576,"kernel":"/k"}}""")]
    public async Task A_command_of_unknown_kind_or_wrong_form_never_reaches_the_agent(string body)
    {
        await using var server = await ApiServer.StartAsync(_agent);
        using var content = new StringContent(body, Encoding.UTF8, "application/json");
        using var answer = await server.Http.PostAsync(new Uri("/agent/v1/commands", UriKind.Relative), content);
        string text = await answer.Content.ReadAsStringAsync();
        Assert.True(answer.StatusCode == HttpStatusCode.BadRequest, $"{(int)answer.StatusCode}: {text}");
        Assert.NotNull(JsonSerializer.Deserialize(text, AgentJson.Default.ErrorBody));
        Assert.Empty(_agent.Commands);
    }
}
