namespace Fabric.Cli.Output;

public enum OutputFormat
{
    Table,
    Wide,
    Json,
    Yaml,
    Name,
}

/// <summary>One column of a table; a wide one is shown with <c>-o wide</c> only.</summary>
public sealed record Column<T>(string Header, Func<T, string> Value, bool Wide = false, bool Right = false);
