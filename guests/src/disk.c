/*
 * fabric.disk=verify: writes blocks of /dev/vda past the page cache, each with its own sequence number and pattern, waits
 * for them to be durable, and reads an older one back. Two hosts that write the same disk, or a write that was acknowledged
 * and lost at a hand-over, are found as a block that does not hold what was written last.
 */
#define _GNU_SOURCE
#include "guest.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { BLOCKS = 1000 };

static void fail(struct progress *progress, const char *what, size_t block, uint64_t expected, uint64_t found)
{
    if (atomic_fetch_add(&progress->errors, 1) < 20)
        say("DISK ERROR %s block=%zu expected=%llu found=%llu", what, block, (unsigned long long)expected, (unsigned long long)found);
}

void disk_run(const struct options *options, struct progress *progress)
{
    static uint64_t last[BLOCKS];
    uint64_t *buffer = (uint64_t *)area(1);
    int disk = open("/dev/vda", O_RDWR | O_DIRECT | O_DSYNC);
    if (disk < 0) {
        say("DISK ERROR cannot open /dev/vda: %s", strerror(errno));
        return;
    }
    say("DISK ready");
    int64_t said = now_ns();
    for (uint64_t sequence = 1;; sequence++) {
        size_t block = sequence % BLOCKS;
        for (size_t i = 0; i < WORDS; i++)
            buffer[i] = pattern(mix(options->seed ^ sequence), i);
        buffer[0] = sequence;
        if (pwrite(disk, buffer, PAGE, (off_t)block * PAGE) != PAGE)
            fail(progress, "write", block, sequence, (uint64_t)errno);
        last[block] = sequence;

        block = mix(sequence) % (sequence < BLOCKS ? sequence : BLOCKS);
        if (last[block] != 0) {
            if (pread(disk, buffer, PAGE, (off_t)block * PAGE) != PAGE)
                fail(progress, "read", block, last[block], (uint64_t)errno);
            else if (buffer[0] != last[block])
                fail(progress, "sequence", block, last[block], buffer[0]);
            else if (buffer[WORDS - 1] != pattern(mix(options->seed ^ last[block]), WORDS - 1))
                fail(progress, "content", block, last[block], buffer[0]);
        }
        atomic_fetch_add_explicit(&progress->disk_ops, 1, memory_order_relaxed);
        struct timespec wait = { 0, 5000000 };
        nanosleep(&wait, NULL);
        int64_t now = now_ns();
        if (now - said >= 1000000000) {
            said = now;
            say("DISK ok ops=%llu errors=%llu", (unsigned long long)sequence, (unsigned long long)atomic_load(&progress->errors));
        }
    }
}
