/*
 * read-heavy, write-heavy, compile-like. A page of these holds its generation in word 0 and, in the other words, a
 * pattern fixed by (seed, page, generation). The generation that a page should have is kept in a table apart from it,
 * so a page that went back to an older, by itself consistent, content is found.
 */
#include "guest.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

struct pool {
    uint8_t *memory;
    uint64_t *generations;
    size_t pages;
    uint64_t seed;
};

static uint64_t base_of(const struct pool *pool, size_t page, uint64_t generation)
{
    return mix(pool->seed ^ mix(page) ^ (generation << 1));
}

static void write_page(struct pool *pool, size_t page, uint64_t generation)
{
    uint64_t *words = (uint64_t *)(pool->memory + page * PAGE);
    uint64_t base = base_of(pool, page, generation);
    words[0] = generation;
    for (size_t i = 1; i < WORDS; i++)
        words[i] = pattern(base, i);
    pool->generations[page] = generation;
}

static void verify_page(const struct pool *pool, size_t page, size_t stride, struct progress *progress)
{
    const volatile uint64_t *words = (const volatile uint64_t *)(pool->memory + page * PAGE);
    uint64_t generation = pool->generations[page];
    uint64_t base = base_of(pool, page, generation);
    uint64_t expected = generation, found = words[0];
    size_t i = 0;
    if (expected == found) {
        for (i = 1 + page % stride; i < WORDS; i += stride) {
            expected = pattern(base, i);
            found = words[i];
            if (expected != found)
                break;
        }
        if (i >= WORDS)
            return;
    }
    uint64_t errors = atomic_fetch_add(&progress->errors, 1) + 1;
    if (errors <= 20)
        say("MEMORY ERROR page=%zu word=%zu expected=0x%llx found=0x%llx generation=%llu", page, i, (unsigned long long)expected,
            (unsigned long long)found, (unsigned long long)generation);
}

static struct pool make_pool(const struct options *options)
{
    struct pool pool = { .pages = options->pages, .seed = options->seed };
    pool.memory = area(pool.pages);
    pool.generations = (uint64_t *)area(pool.pages * 8 / PAGE + 1);
    for (size_t i = 0; i < pool.pages; i++)
        write_page(&pool, i, 1);
    say("MEMORY ready pages=%zu", pool.pages);
    return pool;
}

static void report(const char *name, int64_t *said, struct progress *progress)
{
    int64_t now = now_ns();
    if (now - *said < 1000000000)
        return;
    *said = now;
    uint64_t errors = atomic_load(&progress->errors);
    say("MEMORY %s workload=%s ops=%llu errors=%llu", errors ? "ERROR total" : "ok", name,
        (unsigned long long)atomic_load(&progress->ops), (unsigned long long)errors);
}

static void plant(const struct options *options, struct pool *pool, uint64_t round)
{
    if (options->plant && round == (uint64_t)options->plant)
        memset(pool->memory + (pool->pages / 2) * PAGE, 0, PAGE);
}

/* Reads everything in order, all words; one page in 64 is written anew. */
void read_heavy_run(const struct options *options, struct progress *progress)
{
    struct pool pool = make_pool(options);
    struct pace pace = { 0 };
    int64_t said = now_ns();
    for (uint64_t round = 1;; round++) {
        plant(options, &pool, round);
        for (size_t page = 0; page < pool.pages; page++) {
            verify_page(&pool, page, 1, progress);
            if ((page + round) % 64 == 0)
                write_page(&pool, page, pool.generations[page] + 1);
            atomic_fetch_add_explicit(&progress->ops, 1, memory_order_relaxed);
            pace_step(&pace, options->rate);
        }
        report("read-heavy", &said, progress);
    }
}

/* Rewrites whole pages at random places; the old content is sampled (every 32nd word) before it goes. */
void write_heavy_run(const struct options *options, struct progress *progress)
{
    struct pool pool = make_pool(options);
    struct pace pace = { 0 };
    uint64_t random = mix(options->seed) | 1;
    int64_t said = now_ns();
    for (uint64_t round = 1;; round++) {
        plant(options, &pool, round);
        for (size_t step = 0; step < pool.pages; step++) {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            size_t page = random % pool.pages;
            verify_page(&pool, page, 32, progress);
            write_page(&pool, page, pool.generations[page] + 1);
            atomic_fetch_add_explicit(&progress->ops, 1, memory_order_relaxed);
            pace_step(&pace, options->rate);
        }
        /* What the random choice left alone for long is read as well. */
        for (size_t page = round % 4; page < pool.pages; page += 4)
            verify_page(&pool, page, 32, progress);
        report("write-heavy", &said, progress);
    }
}

/* Many short-lived areas: filled, checked, given back to the kernel, as the processes of a build do. */
void compile_like_run(const struct options *options, struct progress *progress)
{
    uint64_t random = mix(options->seed) | 1;
    struct pace pace = { 0 };
    int64_t said = now_ns();
    for (uint64_t unit = 1;; unit++) {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        size_t most = options->pages > 64 ? options->pages : 64;
        struct pool pool = { .pages = 64 + random % (most / 4 + 1), .seed = options->seed ^ unit };
        pool.memory = area(pool.pages);
        pool.generations = (uint64_t *)area(pool.pages * 8 / PAGE + 1);
        for (size_t page = 0; page < pool.pages; page++) {
            write_page(&pool, page, unit);
            atomic_fetch_add_explicit(&progress->ops, 1, memory_order_relaxed);
            pace_step(&pace, options->rate);
        }
        plant(options, &pool, unit);
        for (size_t page = 0; page < pool.pages; page++)
            verify_page(&pool, page, 1, progress);
        munmap(pool.generations, (pool.pages * 8 / PAGE + 1) * PAGE);
        munmap(pool.memory, pool.pages * PAGE);
        /* A compiler waits for files now and then. */
        struct timespec wait = { 0, (long)(random % 8) * 1000000 };
        nanosleep(&wait, NULL);
        report("compile-like", &said, progress);
    }
}
