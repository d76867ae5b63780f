using System.Globalization;
using Fabric.Core;
using Fabric.Migration;
using Fabric.Wire.Agent;
using Microsoft.AspNetCore.Http;
using Microsoft.AspNetCore.Routing;

namespace Fabric.Api;

/// <summary>Route values, query values and the rules that JSON types cannot say.</summary>
internal static class RequestInput
{
    /// <summary>The longest that a long poll may ask to wait; PROTOCOL.md.</summary>
    public static readonly TimeSpan LongestWait = TimeSpan.FromSeconds(20);

    /// <summary>Bytes of console that one answer may carry: escaped as JSON it still fits a control message.</summary>
    public const int ConsoleBytes = 256 * 1024;

    private const int IdCharacters = 64;

    public static VmName Vm(HttpContext context) => VmName.Parse(Route(context));

    public static HostName Host(HttpContext context) => HostName.Parse(Route(context));

    public static string Id(HttpContext context)
    {
        string id = Route(context);
        return id.Length is > 0 and <= IdCharacters && id.All(c => char.IsAsciiLetterOrDigit(c) || c == '-')
            ? id
            : throw new FabricException(ErrorCodes.InvalidArgument, $"'{Label.Shorten(id)}' is not an id.", "Give an id or a unique beginning of one.");
    }

    public static long Number(HttpContext context, string name, long otherwise, long least, long most)
    {
        var values = context.Request.Query[name];
        if (values.Count == 0)
            return otherwise;
        if (values.Count == 1 && long.TryParse(values[0], NumberStyles.AllowLeadingSign, CultureInfo.InvariantCulture, out long number) && number >= least && number <= most)
            return number;
        throw new FabricException(ErrorCodes.InvalidArgument, $"{name}='{Label.Shorten(values.ToString())}' is not accepted.", $"Use a whole number from {least} to {most}.");
    }

    public static TimeSpan Wait(HttpContext context) => TimeSpan.FromMilliseconds(Number(context, "wait_ms", 0, 0, (long)LongestWait.TotalMilliseconds));

    public static bool Flag(HttpContext context, string name)
    {
        var values = context.Request.Query[name];
        return values.Count switch
        {
            0 => false,
            1 when bool.TryParse(values[0], out bool flag) => flag,
            _ => throw new FabricException(ErrorCodes.InvalidArgument, $"{name}='{Label.Shorten(values.ToString())}' is not accepted.", "Use true or false."),
        };
    }

    public static void Check(VmSpec spec)
    {
        // Numbers are accepted for enumerations by the JSON reader, and elements of lists may be null: neither is what the types say.
        if (!Enum.IsDefined(spec.Machine) || !Enum.IsDefined(spec.Accelerator))
            throw new FabricException(ErrorCodes.InvalidArgument, $"VM '{spec.Name}' has an unknown machine or accelerator.", "machine: qemu or synthetic; accelerator: auto, kvm or tcg.");
        if (spec.Disks is null || spec.Disks.Any(d => d?.Path is null))
            throw new FabricException(ErrorCodes.InvalidArgument, $"VM '{spec.Name}' has a disk without a path.");
        if (spec.Nics.Any(n => n?.Bridge is null))
            throw new FabricException(ErrorCodes.InvalidArgument, $"VM '{spec.Name}' has a network card without a bridge.");
        Refuse(spec.Validate());
    }

    public static void Check(MigrationOptions options)
    {
        if (!Enum.IsDefined(options.Mode) || !Enum.IsDefined(options.Verify))
            throw new FabricException(ErrorCodes.InvalidArgument, "The migration asks for an unknown mode or verify level.", "mode: pre-copy, post-copy, hybrid or auto; verify: none, frames or full.");
        if (!Enum.IsDefined(options.Order))
            throw new FabricException(ErrorCodes.InvalidArgument, $"The migration asks for page order {(int)options.Order}, which is not known.", "order: push-only, forward, dual, forward-multi or dual-multi, each also with -lru.");
        Refuse(options.Validate());
    }

    /// <summary>A registration is believed only for this machine and its trusted network until peers have certificates: the control node will call the given URL.</summary>
    public static void Check(HostRegistration registration, TrustedNetwork trusted)
    {
        if (!registration.AgentUrl.IsAbsoluteUri || registration.AgentUrl.Scheme != Uri.UriSchemeHttp || !trusted.Holds(registration.AgentUrl.Host))
            throw new FabricException(ErrorCodes.RefusedBySafety, $"Agent URL '{Label.Shorten(registration.AgentUrl.ToString())}' is not http on an address that is {trusted}.", "Without certificates a cluster lives on one machine, or on a network of its own that trusted_network names.");
        if (registration.Data.Port is < 1 or > 65535 || string.IsNullOrEmpty(registration.Data.Address) || registration.Data.Address.Length > 255)
            throw new FabricException(ErrorCodes.InvalidArgument, $"Data endpoint '{Label.Shorten(registration.Data.Address)}:{registration.Data.Port}' is not an address and a port.");
        if (registration.MemoryBytes < 0 || registration.Cpus is < 1 or > 65536 || registration.Machines.Any(m => !Enum.IsDefined(m)) || registration.Version.Length > 64)
            throw new FabricException(ErrorCodes.InvalidArgument, $"The registration of host '{registration.Name}' has impossible numbers.");
    }

    private static string Route(HttpContext context) => context.GetRouteValue("id") as string ?? "";

    private static void Refuse(FabricError? error)
    {
        if (error is not null)
            throw new FabricException(error);
    }
}
