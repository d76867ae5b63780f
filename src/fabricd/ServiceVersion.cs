using System.Reflection;

namespace Fabric.Daemon;

internal static class ServiceVersion
{
    public static string Text { get; } = typeof(ServiceVersion).Assembly.GetCustomAttribute<AssemblyInformationalVersionAttribute>()?.InformationalVersion.Split('+')[0] ?? "0";
}
