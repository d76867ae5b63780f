/*
 * The heartbeat: wakes every millisecond and keeps the longest gap between two beats on the guest's own clock. A gap shows
 * every moment in which the guest existed but could not go on (a page that had to come over the network). A stop does not
 * show there, since the guest's clock stands as well: that is what the host clock (hostclock.c) is for.
 *
 *      HB seq=12 t=3000 gap_max_us=1310 at=2875 off_us=-1204 unc_us=14 edge=2951 ops=52224 errors=0 disk=0
 *
 * t: guest milliseconds (CLOCK_MONOTONIC_RAW); gap_max_us: longest gap since the line before, at: when it ended;
 * off_us, unc_us, edge: the last sample of host time minus guest time, its width, and the guest milliseconds of it; "-"
 * where there is none yet. One line every 250 ms.
 */
#include "guest.h"

#include <stdio.h>
#include <time.h>

static const int64_t beat_ns = 1000000, line_ns = 250000000;

void heartbeat_run(const struct options *options, const struct progress *progress)
{
    (void)options;
    struct host_clock clock;
    if (!host_clock_open(&clock))
        say("GUEST ERROR no access to the CMOS clock: stops cannot be measured from inside");
    struct host_sample sample = { 0 };
    int64_t origin = 0, last = now_ns(), line = last + line_ns, gap_max = 0, gap_at = last, edge = 0;
    int have = 0;
    for (uint64_t sequence = 1;;) {
        struct timespec wait = { 0, beat_ns };
        nanosleep(&wait, NULL);
        int64_t now = now_ns();
        if (now - last > gap_max) {
            gap_max = now - last;
            gap_at = now;
        }
        last = now;
        if (host_clock_poll(&clock, &sample)) {
            if (!have)
                origin = sample.offset_us;
            have = 1;
            edge = now_ns();
        }
        /* Polling the edge is the beat's own work, not a gap; what interrupted it longer than its window is one. */
        int64_t after = now_ns();
        last = after - last < 4000000 ? after : last;
        if (after < line)
            continue;
        line += line_ns;
        if (line < after)
            line = after + line_ns;
        char host[96];
        if (have)
            snprintf(host, sizeof host, "off_us=%lld unc_us=%lld edge=%lld", (long long)(sample.offset_us - origin),
                     (long long)sample.uncertainty_us, (long long)(edge / 1000000));
        else
            snprintf(host, sizeof host, "off_us=- unc_us=- edge=-");
        say("HB seq=%llu t=%lld gap_max_us=%lld at=%lld %s ops=%llu errors=%llu disk=%llu", (unsigned long long)sequence++,
            (long long)(after / 1000000), (long long)(gap_max / 1000), (long long)(gap_at / 1000000), host,
            (unsigned long long)atomic_load(&progress->ops), (unsigned long long)atomic_load(&progress->errors),
            (unsigned long long)atomic_load(&progress->disk_ops));
        gap_max = 0;
    }
}
