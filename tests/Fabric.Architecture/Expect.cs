using Xunit;

namespace Fabric.Architecture;

internal static class Expect
{
    /// <summary>Fails with one violation a line, at most thirty.</summary>
    public static void Nothing(IEnumerable<string> violations)
    {
        var found = violations.ToList();
        if (found.Count > 0)
            Assert.Fail($"{found.Count} violations:\n  " + string.Join("\n  ", found.Take(30)));
    }
}
