/*
 * Workloads for the balloon (Fabric.Host/Balloon).
 *
 * freed: dirties fabric.free-mb MiB, gives them back, and is the oracle from then on. With fabric.keep=N every Nth page of them is kept, so that what was given
 * back lies in short pieces: the guest reports free pages to the host by itself only where 2 MiB are free in one piece.
 *
 * grab: whenever the balloon has taken some of the guest's memory, at another moment each time, a child takes fabric.mb MiB as fast as it can, writes them,
 * reads them back and ends. It is the first to die should the kernel have to kill (a guest without a balloon must be large enough for it); the kernel's own count
 * of kills says whether anybody did. One line a try:
 *
 *      GRAB armed try=3                                   the balloon is empty again: the next try begins
 *      GRAB ok try=3 inflated_kb=41216 ms=812 kills=0     or GRAB ERROR …
 */
#define _GNU_SOURCE
#include "guest.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

/* A line "NAME VALUE" or "NAME: VALUE kB" of a file in /proc; 0 where it is not there. */
static uint64_t counter(const char *file, const char *name)
{
    static char text[16384];
    int descriptor = open(file, O_RDONLY);
    ssize_t length = descriptor < 0 ? 0 : read(descriptor, text, sizeof text - 1);
    if (descriptor >= 0)
        close(descriptor);
    text[length > 0 ? length : 0] = 0;
    size_t size = strlen(name);
    for (char *line = text; line && *line; line = strchr(line, '\n'), line = line ? line + 1 : NULL) {
        if (!strncmp(line, name, size) && (line[size] == ' ' || line[size] == ':'))
            return strtoull(line + size + 1, NULL, 10);
    }
    return 0;
}

static uint64_t inflated_kb(void)
{
    uint64_t in = counter("/proc/vmstat", "balloon_inflate"), out = counter("/proc/vmstat", "balloon_deflate");
    return in > out ? (in - out) * (PAGE / 1024) : 0;
}

static void rest_ms(long milliseconds)
{
    struct timespec wait = { milliseconds / 1000, milliseconds % 1000 * 1000000 };
    nanosleep(&wait, NULL);
}

void freed_run(const struct options *options, struct progress *progress)
{
    size_t pages = options->free_mb * 256;
    uint8_t *memory = area(pages);
    /* A huge page would have to be taken apart before a part of it can be given back. */
    madvise(memory, pages * PAGE, MADV_NOHUGEPAGE);
    for (size_t i = 0; i < pages; i++)
        memset(memory + i * PAGE, (int)(1 + i % 255), PAGE);
    if (options->keep == 0) {
        munmap(memory, pages * PAGE);
    } else {
        for (size_t i = 0; i < pages; i += options->keep)
            madvise(memory + (i + 1) * PAGE, (i + options->keep < pages ? options->keep - 1 : pages - i - 1) * PAGE, MADV_DONTNEED);
    }
    say("FREED mb=%zu keep=%zu free_kb=%llu available_kb=%llu", options->free_mb, options->keep,
        (unsigned long long)counter("/proc/meminfo", "MemFree"), (unsigned long long)counter("/proc/meminfo", "MemAvailable"));
    oracle_run(options, progress);
}

/* The child: ends with 0 when all that it wrote was there. */
static int take(const struct options *options, uint64_t try)
{
    int file = open("/proc/self/oom_score_adj", O_WRONLY);
    if (file < 0 || write(file, "1000", 4) != 4)
        return 2;
    close(file);
    uint8_t *memory = area(options->pages);
    for (size_t i = 0; i < options->pages; i++)
        *(uint64_t *)(memory + i * PAGE) = mix(try ^ mix(i));
    for (size_t i = 0; i < options->pages; i++) {
        if (*(uint64_t *)(memory + i * PAGE) != mix(try ^ mix(i)))
            return 3;
    }
    return 0;
}

void grab_run(const struct options *options, struct progress *progress)
{
    uint64_t kills = counter("/proc/vmstat", "oom_kill");
    say("GRAB ready mb=%zu total_kb=%llu available_kb=%llu kills=%llu", options->pages / 256, (unsigned long long)counter("/proc/meminfo", "MemTotal"),
        (unsigned long long)counter("/proc/meminfo", "MemAvailable"), (unsigned long long)kills);
    for (uint64_t try = 1;; try++) {
        /* Whoever fills the balloon may not have noticed the try before: then it is grabbed at as it is. */
        for (int waited = 0; inflated_kb() > 1024 && waited < 20000; waited += 10)
            rest_ms(10);
        say("GRAB armed try=%llu", (unsigned long long)try);
        /* Between 4 MiB and fabric.free-mb: at the beginning, in the middle and at the end of an inflation. */
        uint64_t trigger_kb = 4096 + mix(options->seed ^ try) % (options->free_mb * 1024);
        while (inflated_kb() < trigger_kb)
            rest_ms(1);
        uint64_t inflated = inflated_kb();
        int64_t began = now_ns();
        pid_t child = fork();
        if (child == 0)
            _exit(take(options, try));
        int status = -1;
        if (child > 0)
            waitpid(child, &status, 0);
        uint64_t now = counter("/proc/vmstat", "oom_kill");
        int ok = child > 0 && status == 0 && now == kills;
        if (!ok)
            atomic_fetch_add(&progress->errors, 1);
        say("GRAB %s try=%llu inflated_kb=%llu ms=%lld kills=%llu status=%d", ok ? "ok" : "ERROR", (unsigned long long)try,
            (unsigned long long)inflated, (long long)((now_ns() - began) / 1000000), (unsigned long long)now, status);
        kills = now;
        atomic_fetch_add_explicit(&progress->ops, 1, memory_order_relaxed);
    }
}
