using System.Text.Json;
using System.Text.Json.Serialization.Metadata;
using Fabric.Wire.Api;
using Spectre.Console;

namespace Fabric.Cli.Output;

/// <summary>
/// Writes results to stdout in the format that was asked for. A table is drawn on a terminal; elsewhere it is plain aligned lines
/// without colour, whose width does not depend on any window.
/// </summary>
public sealed class Printer(CliContext context, OutputFormat format, bool color)
{
    // The API's own names; nulls are written, since scripts read them.
    private static readonly ApiJson Api = new(new JsonSerializerOptions(ApiJson.Default.Options) { WriteIndented = true });

    public void List<T>(IReadOnlyList<T> items, IReadOnlyList<Column<T>> columns, Func<T, string> name, Func<ApiJson, JsonTypeInfo<T>> type)
    {
        ArgumentNullException.ThrowIfNull(items);
        ArgumentNullException.ThrowIfNull(type);
        switch (format)
        {
            case OutputFormat.Json:
                WriteJson(items, type(Api));
                break;
            case OutputFormat.Yaml:
                context.Out.Write(YamlText.Of(JsonSerializer.SerializeToElement(items.Select(i => JsonSerializer.SerializeToElement(i, type(Api))).ToList())));
                break;
            case OutputFormat.Name:
                foreach (var item in items)
                    context.Out.WriteLine(name(item));
                break;
            default:
                WriteTable(items, [.. columns.Where(c => !c.Wide || format == OutputFormat.Wide)]);
                break;
        }
    }

    /// <summary>One object: as a table its fields are lines.</summary>
    public void One<T>(T item, IReadOnlyList<Column<T>> fields, Func<T, string> name, Func<ApiJson, JsonTypeInfo<T>> type)
    {
        ArgumentNullException.ThrowIfNull(fields);
        ArgumentNullException.ThrowIfNull(type);
        switch (format)
        {
            case OutputFormat.Json:
                context.Out.WriteLine(JsonSerializer.Serialize(item, type(Api)));
                break;
            case OutputFormat.Yaml:
                context.Out.Write(YamlText.Of(JsonSerializer.SerializeToElement(item, type(Api))));
                break;
            case OutputFormat.Name:
                context.Out.WriteLine(name(item));
                break;
            default:
                int width = fields.Max(f => f.Header.Length) + 2;
                foreach (var field in fields)
                    context.Out.WriteLine((field.Header.ToLowerInvariant() + ":").PadRight(width) + field.Value(item));
                break;
        }
    }

    private void WriteJson<T>(IReadOnlyList<T> items, JsonTypeInfo<T> type)
    {
        using var buffer = new MemoryStream();
        using (var writer = new Utf8JsonWriter(buffer, new JsonWriterOptions { Indented = true }))
        {
            writer.WriteStartArray();
            foreach (var item in items)
                JsonSerializer.Serialize(writer, item, type);
            writer.WriteEndArray();
        }

        context.Out.WriteLine(System.Text.Encoding.UTF8.GetString(buffer.GetBuffer(), 0, (int)buffer.Length));
    }

    /// <summary>A drawn table must fit the terminal: squeezed columns cannot be read, long lines can.</summary>
    private void WriteTable<T>(IReadOnlyList<T> items, IReadOnlyList<Column<T>> columns)
    {
        var rows = items.Select(item => columns.Select(c => c.Value(item)).ToArray()).Prepend([.. columns.Select(c => c.Header.ToUpperInvariant())]).ToList();
        int[] widths = [.. columns.Select((_, i) => rows.Max(r => r[i].Length))];
        if (context.OutIsTerminal && widths.Sum(w => w + 3) + 1 <= context.Width)
            DrawTable(items, columns);
        else
            WriteLines(rows, widths, columns);
    }

    private void DrawTable<T>(IReadOnlyList<T> items, IReadOnlyList<Column<T>> columns)
    {
        var table = new Table().Border(TableBorder.Rounded);
        foreach (var column in columns)
        {
            var header = new TableColumn(new Markup(Markup.Escape(column.Header.ToUpperInvariant()), new Style(decoration: Decoration.Bold))).NoWrap();
            table.AddColumn(column.Right ? header.RightAligned() : header);
        }

        foreach (var item in items)
            table.AddRow(columns.Select(c => new Text(c.Value(item))));
        Terminal.On(context.Out, context, color).Write(table);
    }

    private void WriteLines<T>(IReadOnlyList<string[]> rows, int[] widths, IReadOnlyList<Column<T>> columns)
    {
        foreach (string[] row in rows)
        {
            var cells = row.Select((cell, i) => columns[i].Right ? cell.PadLeft(widths[i]) : cell.PadRight(widths[i]));
            context.Out.WriteLine(string.Join("  ", cells).TrimEnd());
        }
    }
}

/// <summary>Spectre consoles over the context's writers.</summary>
public static class Terminal
{
    public static IAnsiConsole On(TextWriter writer, CliContext context, bool color)
    {
        ArgumentNullException.ThrowIfNull(context);
        var console = AnsiConsole.Create(new AnsiConsoleSettings
        {
            Out = new AnsiConsoleOutput(writer),
            Ansi = AnsiSupport.Yes,
            ColorSystem = color ? ColorSystemSupport.Standard : ColorSystemSupport.NoColors,
            Interactive = InteractionSupport.No,
        });
        console.Profile.Width = context.Width;
        return console;
    }
}
