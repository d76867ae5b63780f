/*
 * Many processes, each of which fills an area of its own with random numbers, sorts it, checks it, and begins anew: the test by which the
 * post-copy literature compares the orders of pre-paging (Hines, Deshpande, Gopalan, OSR'09: 32 processes of 16 MB). Many places of memory are
 * in use at the same time, and each of them moves.
 *
 * What is checked: the numbers ascend, and their sum and exclusive-or are those that they were filled with. A page that was lost, doubled or taken
 * from an older moment breaks the one or the other.
 */
#include "guest.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { PROCESSES = 32, SMALL = 24 };

/* Shared by all processes: each child writes its own slot, the parent reads. */
struct slot {
    _Atomic uint64_t ops;    /* pages that a pass has gone over */
    _Atomic uint64_t errors;
    _Atomic uint64_t sorts;
};

static void insertion_sort(uint32_t *numbers, size_t count)
{
    for (size_t i = 1; i < count; i++) {
        uint32_t value = numbers[i];
        size_t j = i;
        for (; j > 0 && numbers[j - 1] > value; j--)
            numbers[j] = numbers[j - 1];
        numbers[j] = value;
    }
}

/* Hoare's partition around the median of three; the larger half waits, so that the recursion stays shallow. */
static void quicksort(uint32_t *numbers, size_t count, struct slot *slot)
{
    while (count > SMALL) {
        uint32_t a = numbers[0], b = numbers[count / 2], c = numbers[count - 1];
        uint32_t pivot = a < b ? (b < c ? b : a < c ? c : a) : (a < c ? a : b < c ? c : b);
        size_t low = 0, high = count - 1;
        for (;; low++, high--) {
            while (numbers[low] < pivot)
                low++;
            while (numbers[high] > pivot)
                high--;
            if (low >= high)
                break;
            uint32_t swap = numbers[low];
            numbers[low] = numbers[high];
            numbers[high] = swap;
        }
        atomic_fetch_add_explicit(&slot->ops, count * sizeof(uint32_t) / PAGE, memory_order_relaxed);
        size_t left = high + 1;
        if (left < count - left) {
            quicksort(numbers, left, slot);
            numbers += left;
            count -= left;
        } else {
            quicksort(numbers + left, count - left, slot);
            count = left;
        }
    }
    insertion_sort(numbers, count);
}

static void fail(struct slot *slot, int process, const char *what, unsigned long long expected, unsigned long long found)
{
    uint64_t errors = atomic_fetch_add(&slot->errors, 1) + 1;
    if (errors <= 3)
        say("MEMORY ERROR quicksort process=%d %s expected=0x%llx found=0x%llx", process, what, expected, found);
}

static void sort_for_ever(const struct options *options, struct slot *slot, int process)
{
    size_t pages = options->pages / PROCESSES > 0 ? options->pages / PROCESSES : 1;
    size_t count = pages * PAGE / sizeof(uint32_t);
    uint32_t *numbers = (uint32_t *)area(pages);
    uint64_t random = mix(options->seed ^ mix((uint64_t)process)) | 1;
    for (uint64_t round = 1;; round++) {
        uint64_t sum = 0, all = 0;
        for (size_t i = 0; i < count; i++) {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            numbers[i] = (uint32_t)random;
            sum += numbers[i];
            all ^= numbers[i];
        }
        atomic_fetch_add(&slot->sorts, 1); /* the first says that the area is laid out */
        quicksort(numbers, count, slot);
        if (options->plant && round == (uint64_t)options->plant && process == PROCESSES / 2)
            numbers[count / 2] ^= 1u << 31;
        for (size_t i = 0; i < count; i++) {
            sum -= numbers[i];
            all ^= numbers[i];
            if (i > 0 && numbers[i - 1] > numbers[i])
                fail(slot, process, "order", numbers[i - 1], numbers[i]);
        }
        if (sum != 0 || all != 0)
            fail(slot, process, "sum", 0, sum ? sum : all);
    }
}

void quicksort_run(const struct options *options, struct progress *progress)
{
    struct slot *slots = mmap(NULL, PROCESSES * sizeof *slots, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (slots == MAP_FAILED) {
        say("GUEST ERROR no memory for the counters of quicksort");
        return;
    }
    for (int i = 0; i < PROCESSES; i++) {
        pid_t child = fork();
        if (child == 0) {
            sort_for_ever(options, &slots[i], i);
            _exit(1);
        }
        if (child < 0)
            say("GUEST ERROR cannot start process %d of quicksort", i);
    }
    int ready = 0;
    uint64_t killed = 0;
    for (int64_t said = now_ns();;) {
        struct timespec wait = { 0, 50000000 };
        nanosleep(&wait, NULL);
        uint64_t ops = 0, errors = 0;
        int begun = 0;
        for (int i = 0; i < PROCESSES; i++) {
            ops += atomic_load(&slots[i].ops);
            errors += atomic_load(&slots[i].errors);
            begun += atomic_load(&slots[i].sorts) > 0;
        }
        /* A process never ends by itself: one that did was killed. */
        int status;
        pid_t ended = waitpid(-1, &status, WNOHANG);
        if (ended > 0) {
            killed++;
            say("MEMORY ERROR quicksort ended pid=%d status=%d", (int)ended, status);
        }
        errors += killed;
        atomic_store(&progress->ops, ops);
        atomic_store(&progress->errors, errors);
        if (!ready && begun == PROCESSES) {
            ready = 1;
            say("MEMORY ready pages=%zu", options->pages);
        }
        if (now_ns() - said >= 1000000000) {
            said = now_ns();
            say("MEMORY %s workload=quicksort ops=%llu errors=%llu", errors ? "ERROR total" : "ok", (unsigned long long)ops, (unsigned long long)errors);
        }
    }
}
