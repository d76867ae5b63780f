/*
 * The memory oracle, after the idea of QEMU's migration test: one byte per page is incremented in page order, for ever.
 *
 *      pages  0 1 2 3 4 5 6 7 8 9
 *      byte   9 9 9 9 8 8 8 8 8 8      at any moment: v+1 before the writer's place, v from there on, mod 256
 *
 * So over all pages at most one step may exist, and it must lie at the writer's place. A page that arrived from an older
 * moment than its neighbours makes a second step. Once per sweep, at another place each time, the writer stops and looks
 * at all pages. Beside the counter (byte 0) every byte of a page is fixed by seed and page number; an eighth of the pages is
 * compared in full in every sweep, so a page in another page's place or with torn content is found within eight sweeps.
 */
#include "guest.h"

static void fill(uint8_t *page, uint64_t base)
{
    uint64_t *words = (uint64_t *)page;
    for (size_t i = 0; i < WORDS; i++)
        words[i] = pattern(base, i);
    page[0] = 0;
}

static void fail(struct progress *progress, const char *what, size_t page, unsigned long long expected, unsigned long long found, uint64_t sweep)
{
    uint64_t errors = atomic_fetch_add(&progress->errors, 1) + 1;
    if (errors <= 20) /* the count goes on in the heartbeat; the line must not drown */
        say("ORACLE ERROR %s page=%zu expected=0x%llx found=0x%llx sweep=%llu", what, page, expected, found, (unsigned long long)sweep);
}

static void check_content(const uint8_t *page, size_t number, uint64_t base, uint64_t sweep, struct progress *progress)
{
    const uint64_t *words = (const uint64_t *)page;
    uint64_t counter_mask = ~0xFFull; /* byte 0 is the counter */
    if ((words[0] ^ pattern(base, 0)) & counter_mask) {
        fail(progress, "content", number, pattern(base, 0), words[0], sweep);
        return;
    }
    for (size_t i = 1; i < WORDS; i++) {
        if (words[i] != pattern(base, i)) {
            fail(progress, "content", number, pattern(base, i), words[i], sweep);
            return;
        }
    }
}

/* Looks at memory alone: which steps exist, and is the only one at `place`? */
static void check_steps(const uint8_t *memory, size_t pages, size_t place, uint8_t value, uint64_t sweep, struct progress *progress)
{
    for (size_t i = 0; i < pages; i++) {
        uint8_t expected = i < place ? (uint8_t)(value + 1) : value;
        uint8_t found = *(volatile const uint8_t *)(memory + i * PAGE);
        if (found != expected)
            fail(progress, "step", i, expected, found, sweep);
    }
}

void oracle_run(const struct options *options, struct progress *progress)
{
    size_t pages = options->pages;
    uint8_t *memory = area(pages);
    for (size_t i = 0; i < pages; i++)
        fill(memory + i * PAGE, mix(options->seed ^ mix(i)));
    say("ORACLE ready pages=%zu", pages);

    struct pace pace = { 0 };
    int64_t said = now_ns();
    for (uint64_t sweep = 0;; sweep++) {
        uint8_t value = (uint8_t)sweep;
        size_t look = mix(options->seed + sweep) % pages;
        if (options->plant && sweep == (uint64_t)options->plant)
            memory[(pages / 2) * PAGE + 100] ^= 1;
        for (size_t i = 0; i < pages; i++) {
            volatile uint8_t *page = memory + i * PAGE;
            if (i == look)
                check_steps(memory, pages, i, value, sweep, progress);
            if (*page != value)
                fail(progress, "counter", i, value, *page, sweep);
            if (((i + sweep) & 7) == 0)
                check_content(memory + i * PAGE, i, mix(options->seed ^ mix(i)), sweep, progress);
            *page = (uint8_t)(value + 1);
            atomic_fetch_add_explicit(&progress->ops, 1, memory_order_relaxed);
            pace_step(&pace, options->rate);
        }
        int64_t now = now_ns();
        if (now - said >= 1000000000) {
            said = now;
            uint64_t errors = atomic_load(&progress->errors);
            if (errors == 0)
                say("ORACLE ok sweeps=%llu errors=0", (unsigned long long)sweep + 1);
            else
                say("ORACLE ERROR total sweeps=%llu errors=%llu", (unsigned long long)sweep + 1, (unsigned long long)errors);
        }
    }
}
