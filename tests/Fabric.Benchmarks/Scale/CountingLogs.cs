using System.Collections.Concurrent;
using System.Globalization;
using Microsoft.Extensions.Logging;

namespace Fabric.Benchmarks.Scale;

/// <summary>Writes a log file as a daemon would, from <paramref name="least"/> on, and keeps count of what is a warning or worse.</summary>
internal sealed class CountingLogs(string path, LogLevel least, TimeProvider time) : ILoggerFactory
{
    private readonly StreamWriter _file = new(path);
    private readonly Lock _gate = new();
    private readonly ConcurrentDictionary<string, int> _warnings = new(StringComparer.Ordinal);
    private readonly ConcurrentDictionary<string, ILogger> _loggers = new(StringComparer.Ordinal);

    /// <summary>How often each kind of warning or error was said, with an example.</summary>
    internal IReadOnlyDictionary<string, int> Warnings => _warnings;

    public ILogger CreateLogger(string categoryName) => _loggers.GetOrAdd(categoryName, name => new Logger(this, name));

    public void AddProvider(ILoggerProvider provider) => throw new NotSupportedException("This log goes to its file only.");

    public void Dispose() => _file.Dispose();

    private void Write(LogLevel level, string category, EventId id, string text, Exception? exception)
    {
        if (level >= LogLevel.Warning)
            _warnings.AddOrUpdate($"{category}: {id.Name ?? text}", 1, static (_, count) => count + 1);
        lock (_gate)
        {
            _file.WriteLine(string.Create(CultureInfo.InvariantCulture, $"{time.GetUtcNow():O} {level} {category}: {text}"));
            if (exception is not null)
                _file.WriteLine(exception);
        }
    }

    private sealed class Logger(CountingLogs logs, string category) : ILogger
    {
        public IDisposable? BeginScope<TState>(TState state)
            where TState : notnull => null;

        public bool IsEnabled(LogLevel logLevel) => logLevel >= logs.Least && logLevel != LogLevel.None;

        public void Log<TState>(LogLevel logLevel, EventId eventId, TState state, Exception? exception, Func<TState, Exception?, string> formatter)
        {
            if (IsEnabled(logLevel))
                logs.Write(logLevel, category, eventId, formatter(state, exception), exception);
        }
    }

    private LogLevel Least => least;
}
