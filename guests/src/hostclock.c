/*
 * The host's wall clock as a stopped guest cannot fake it.
 *
 * While a VM is stopped its own clocks stand too (TSC, HPET and kvmclock belong to QEMU's virtual clock), so no clock of
 * the guest shows a downtime. The CMOS clock is different: QEMU computes it from the host's wall clock at every read, before
 * and after a move. It counts whole seconds only, but its *edge* is exact. So: note the guest's clock at each edge of
 * the CMOS second. The distance between two edges is one host second; what the guest's clock shows less is time in which
 * the guest did not exist. `offset_us` = host time − guest time: it rises by exactly the length of every stop.
 *
 *      host    |----1s----|----1s----|----1s----|
 *      guest   |----------|---[stop]-|----------|       guest clock at the edges: 0, 1.000, 1.987, 2.987 -> stop of 13 ms
 *
 * The port is polled only around the expected edge (from 1.5 ms before it), so the cost is below one percent; after a
 * stop the edge comes early, the poll finds the new second already there, the sample is dropped and the next edge is
 * looked for over a whole second in naps. The offset grows by the rate error of the two clocks as well (some 10 us a second);
 * whoever reads the log takes that slope out.
 */
#define _GNU_SOURCE
#include "guest.h"

#include <stdint.h>
#include <sys/io.h>
#include <time.h>

enum { INDEX_PORT = 0x70, DATA_PORT = 0x71, SECONDS = 0, NMI_OFF = 0x80 };
static const int64_t second_ns = 1000000000, lead_ns = 1500000, window_ns = 2000000;

static int read_second(void)
{
    outb(NMI_OFF | SECONDS, INDEX_PORT);
    return inb(DATA_PORT) & 0x7F;
}

static int to_number(int bcd)
{
    return (bcd >> 4) * 10 + (bcd & 15);
}

int host_clock_open(struct host_clock *clock)
{
    *clock = (struct host_clock){ .usable = ioperm(INDEX_PORT, 2, 1) == 0 };
    if (clock->usable) {
        clock->last_bcd = read_second();
        clock->poll_before_ns = now_ns();
    }
    return clock->usable;
}

/* An edge was seen between `before` and `after` (guest clock): keep or drop it, and expect the next one. */
static int take_edge(struct host_clock *clock, int bcd, int64_t before, int64_t after, struct host_sample *sample)
{
    int passed = (to_number(bcd) - to_number(clock->last_bcd) + 60) % 60;
    clock->last_bcd = bcd;
    clock->second += passed;
    int64_t at = before + (after - before) / 2;
    /* Far too coarse (a nap or a stop lay between the polls): no sample, but the next edge is at most a second away. */
    int exact = after - before < window_ns;
    clock->edge_ns = exact ? at + second_ns : 0;
    if (!exact)
        return 0;
    sample->offset_us = (clock->second * second_ns - at) / 1000;
    sample->uncertainty_us = (after - before) / 1000 + 1;
    return 1;
}

int host_clock_poll(struct host_clock *clock, struct host_sample *sample)
{
    if (!clock->usable)
        return 0;
    int64_t now = now_ns();
    if (clock->edge_ns != 0 && now < clock->edge_ns - lead_ns)
        return 0;
    /* Searching (edge unknown): one look per beat, so the beat goes on and the edge is known to a beat's length. */
    int64_t until = clock->edge_ns == 0 ? now : now + window_ns;
    do {
        int64_t before = clock->poll_before_ns;
        int bcd = read_second();
        int64_t after = now_ns();
        clock->poll_before_ns = after;
        if (bcd != clock->last_bcd)
            return take_edge(clock, bcd, before, after, sample);
    } while (now_ns() < until);
    return 0;
}
