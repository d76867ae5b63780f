using System.Runtime.InteropServices;
using Fabric.Core;
using Fabric.Daemon;
using Fabric.Daemon.Configuration;
using Microsoft.Extensions.Logging.Console;

const int failed = 1;
const int usage = 2;
try
{
    var arguments = DaemonArguments.Parse(args);
    if (arguments.Help)
    {
        Console.WriteLine(DaemonArguments.Usage);
        return 0;
    }

    var values = arguments.Config is { } file ? ConfigText.ReadFile(file) : [];
    ConfigText.ReadEnvironment(values, Environment.GetEnvironmentVariable);
    ConfigText.ReadAssignments(values, arguments.Assignments);
    var config = DaemonConfig.From(values, arguments.Directory);
    using var logs = LoggerFactory.Create(logging => logging
        .SetMinimumLevel(config.LogLevel)
        .AddFilter("Microsoft.AspNetCore", LogLevel.Warning)
        .AddJsonConsole(json =>
        {
            json.IncludeScopes = true;
            json.UseUtcTimestamp = true;
            json.TimestampFormat = "yyyy-MM-ddTHH:mm:ss.ffffffZ";
        })
        .Services.Configure<ConsoleLoggerOptions>(console => console.LogToStandardErrorThreshold = LogLevel.Trace));
    using var stop = new CancellationTokenSource();
    using var onTerminate = PosixSignalRegistration.Create(PosixSignal.SIGTERM, Stop);
    using var onInterrupt = PosixSignalRegistration.Create(PosixSignal.SIGINT, Stop);
    await new DaemonRun(config, logs, TimeProvider.System).RunAsync(stop.Token);
    return 0;

    void Stop(PosixSignalContext signal)
    {
        signal.Cancel = true;
        stop.Cancel();
    }
}
catch (FabricException refused)
{
    await Console.Error.WriteLineAsync($"fabricd: {refused.Error.Message}" + (refused.Error.Hint is { } hint ? $"\n  {hint}" : ""));
    return refused.Error.Code == ErrorCodes.InvalidArgument ? usage : failed;
}
