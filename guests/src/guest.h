/*
 * The program that runs inside a test guest: one heartbeat thread and one workload.
 *
 * Every workload keeps its memory in a state that can be checked at any moment from the memory alone, so a page that
 * was lost, doubled, torn or taken from an older moment is found by the guest itself. What it finds goes to the serial
 * line at once, one line per finding, beginning with a word in capitals and "ERROR".
 *
 * Threads: the heartbeat thread (real-time priority) reads the counters of `struct progress`; only the workload's own
 * thread writes them. Nothing else is shared.
 */
#ifndef FABRIC_GUEST_H
#define FABRIC_GUEST_H

#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

enum { PAGE = 4096, WORDS = PAGE / 8 };

struct options {
    char workload[32];
    size_t pages;       /* pages of the workload's area */
    uint64_t rate;      /* pages per second, 0 = as fast as it goes */
    uint64_t seed;
    size_t stress_mb;   /* MiB for stress-ng's own area */
    size_t free_mb;     /* MiB that freed gives back, that grab lets the balloon take at most */
    size_t keep;        /* freed: every so many pages one is kept; 0 = none */
    int disk;           /* verify writes on /dev/vda */
    int net;            /* serve TCP clients */
    int plant;          /* break one byte after some time: shows that the checker sees it */
};

struct progress {
    _Atomic uint64_t ops;
    _Atomic uint64_t errors;
    _Atomic uint64_t disk_ops;
};

/* heartbeat.c: never returns. */
void heartbeat_run(const struct options *options, const struct progress *progress);

/* hostclock.c: the host's wall clock, read through the machine's CMOS clock. */
struct host_clock {
    int usable;
    int64_t edge_ns;          /* guest clock when the next second edge is expected */
    int64_t second;           /* the CMOS second counted since the first edge */
    int last_bcd;
    int64_t poll_before_ns;   /* guest clock of the last poll that saw the old second */
};

struct host_sample {
    int64_t offset_us;        /* host clock minus guest clock, both counted from the first edge */
    int64_t uncertainty_us;   /* width of the interval in which the edge fell */
};

int host_clock_open(struct host_clock *clock);
/* Polls while the edge is near; returns 1 and fills `sample` when an edge was caught, else 0. Takes at most ~2 ms. */
int host_clock_poll(struct host_clock *clock, struct host_sample *sample);

/* oracle.c, workloads.c, quicksort.c, pressure.c, disk.c: never return. */
void oracle_run(const struct options *options, struct progress *progress);
void read_heavy_run(const struct options *options, struct progress *progress);
void write_heavy_run(const struct options *options, struct progress *progress);
void compile_like_run(const struct options *options, struct progress *progress);
void quicksort_run(const struct options *options, struct progress *progress);
void freed_run(const struct options *options, struct progress *progress);
void grab_run(const struct options *options, struct progress *progress);
void disk_run(const struct options *options, struct progress *progress);

/* net.c: starts its threads and returns. */
void net_start(void);

/* main.c: shared by the workloads. */
int64_t now_ns(void);                                        /* CLOCK_MONOTONIC_RAW */
void say(const char *format, ...) __attribute__((format(printf, 1, 2))); /* one line, one write */
uint8_t *area(size_t pages);                                 /* page-aligned, private, exits when there is no memory */

/* A limit of `rate` steps a second: sleeps when the caller is ahead by more than 2 ms. */
struct pace {
    int64_t start_ns;
    uint64_t done;
};
void pace_step(struct pace *pace, uint64_t rate);

static inline uint64_t mix(uint64_t value)
{
    /* The finalizer of SplitMix64 (Steele, Lea, Flood 2014): every input bit changes half of the output bits. */
    value += 0x9E3779B97F4A7C15ull;
    value = (value ^ (value >> 30)) * 0xBF58476D1CE4E5B9ull;
    value = (value ^ (value >> 27)) * 0x94D049BB133111EBull;
    return value ^ (value >> 31);
}

static inline uint64_t pattern(uint64_t base, size_t word)
{
    return base + word * 0x9E3779B97F4A7C15ull;
}

#endif
