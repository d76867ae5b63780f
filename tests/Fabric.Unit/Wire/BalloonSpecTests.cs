using System.Text.Json;
using Fabric.Core;
using Fabric.Wire.Api;
using Xunit;

namespace Fabric.Unit.Wire;

/// <summary>What a request to make a VM may say of its balloon. Proven by tables of texts and numbers.</summary>
public sealed class BalloonSpecTests
{
    private static readonly VmSpec Spec = new() { Name = VmName.Parse("web"), MemoryBytes = ByteSize.Gibi, Kernel = "/k" };

    [Theory]
    [InlineData("", null)]
    [InlineData(""","balloon":null""", null)]
    [InlineData(""","balloon":{}""", BalloonSpec.PaperIntervalMs)]
    [InlineData(""","balloon":{"interval_ms":700}""", 700)]
    public void A_balloon_is_asked_for_by_an_object(string balloon, int? millis)
    {
        var request = JsonSerializer.Deserialize("""{"spec":{"name":"web","memory_bytes":1048576,"kernel":"/k","vcpus":1""" + balloon + """},"host":"alpha"}""", ApiJson.Default.CreateVmRequest)!;
        Assert.Equal(millis, request.Spec.Balloon?.IntervalMs);
        Assert.Equal(request.Spec, JsonSerializer.Deserialize(JsonSerializer.Serialize(request, ApiJson.Default.CreateVmRequest), ApiJson.Default.CreateVmRequest)!.Spec);
    }

    [Fact]
    public void A_balloon_out_of_bounds_or_of_a_machine_without_one_is_refused()
    {
        Assert.Null((Spec with { Balloon = new BalloonSpec() }).Validate());
        foreach (int millis in new[] { int.MinValue, 0, BalloonSpec.LeastIntervalMs - 1, BalloonSpec.MostIntervalMs + 1 })
            Assert.Contains($"{millis} ms", (Spec with { Balloon = new BalloonSpec(millis) }).Validate()!.Message, StringComparison.Ordinal);
        Assert.NotNull((Spec with { Balloon = new BalloonSpec(), Machine = MachineKind.Synthetic }).Validate());
    }
}
