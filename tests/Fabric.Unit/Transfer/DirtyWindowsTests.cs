using Fabric.Actors.Testing;
using Fabric.Core;
using Fabric.Transfer.Outgoing;
using Xunit;

namespace Fabric.Unit.Transfer;

/// <summary>On a clock that the test moves.</summary>
public sealed class DirtyWindowsTests
{
    private readonly ManualTime _time = new();
    private readonly DirtyWindows _windows;

    public DirtyWindowsTests() => _windows = new DirtyWindows(100_000, _time);

    [Fact]
    public void Hot_is_what_was_written_in_each_of_the_last_two_windows()
    {
        Window(0, 100);
        Assert.Equal(0, _windows.HotPages);
        Window(50, 100);
        Assert.Equal(50, _windows.HotPages);
        Assert.True(_windows.Hot[50]);
        Assert.False(_windows.Hot[100]);
        Assert.Equal(500, _windows.FreshPagesPerSecond, 1.0); // 50 of them, in a tenth of a second
        Assert.Equal(150, _windows.WrittenPages);
        Window(900, 0);
        Assert.Equal(0, _windows.HotPages);
    }

    [Fact]
    public void Scans_within_a_window_are_one()
    {
        for (int i = 0; i < 3; i++)
        {
            Scan(0, 10, TimeSpan.FromMilliseconds(10));
            Scan(0, 10, TimeSpan.FromMilliseconds(10));
        }

        Assert.Equal(0, _windows.HotPages);
        Window(0, 10);
        Window(0, 10);
        Assert.Equal(10, _windows.HotPages);
    }

    [Theory]
    [InlineData(1, 0, 100)]
    [InlineData(10, 0, 500)] // scans take 1/50 of the time
    [InlineData(1, 10_000, 400)] // faults at 2 µs take 1/20 of the guest's
    [InlineData(1, 90_000, 1000)] // but there is a look every second
    [InlineData(100, 90_000, 5000)]
    public void Looks_are_as_often_as_they_are_cheap(int scanMs, int pages, int pauseMs)
    {
        // The second window is waited for less.
        _time.Advance(DirtyWindows.Least);
        _windows.Add(Run(0, pages), TimeSpan.FromMilliseconds(scanMs));
        Assert.Equal(Math.Max(100, 10 * scanMs), _windows.Pause.TotalMilliseconds);
        _time.Advance(DirtyWindows.Least);
        _windows.Add(Run(0, pages), TimeSpan.FromMilliseconds(scanMs));
        Assert.Equal(pauseMs, _windows.Pause.TotalMilliseconds);
    }

    private void Window(long first, int count) => Scan(first, count, DirtyWindows.Least);

    private void Scan(long first, int count, TimeSpan after)
    {
        _time.Advance(after);
        _windows.Add(Run(first, count), TimeSpan.FromMilliseconds(1));
    }

    private static PageBitmap Run(long first, int count)
    {
        PageBitmap found = new(100_000);
        found.SetRun(new PageRun(first, count));
        return found;
    }
}
