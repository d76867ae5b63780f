/* Reads the kernel command line, starts the workload and the heartbeat. See guest.h. */
#define _GNU_SOURCE
#include "guest.h"

#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static struct options options = {
    .workload = "idle", .pages = 64 * 256, .rate = 0, .seed = 1, .stress_mb = 32, .free_mb = 64, .keep = 0, .disk = 0, .net = 0, .plant = 0,
};
static struct progress progress;

int64_t now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC_RAW, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

void say(const char *format, ...)
{
    char line[512];
    va_list arguments;
    va_start(arguments, format);
    int length = vsnprintf(line, sizeof line - 1, format, arguments);
    va_end(arguments);
    if (length < 0)
        return;
    if (length > (int)sizeof line - 2)
        length = sizeof line - 2;
    line[length++] = '\n';
    /* One write per line: the terminal layer keeps lines of different threads apart. */
    ssize_t ignored = write(STDOUT_FILENO, line, (size_t)length);
    (void)ignored;
}

uint8_t *area(size_t pages)
{
    void *start = mmap(NULL, pages * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (start == MAP_FAILED) {
        say("GUEST ERROR no memory for %zu pages: lower fabric.mb", pages);
        exit(1);
    }
    return start;
}

void pace_step(struct pace *pace, uint64_t rate)
{
    if (rate == 0)
        return;
    if (pace->done++ == 0)
        pace->start_ns = now_ns();
    int64_t ahead = (int64_t)(pace->done * 1000000000 / rate) - (now_ns() - pace->start_ns);
    if (ahead > 2000000) {
        struct timespec t = { ahead / 1000000000, ahead % 1000000000 };
        nanosleep(&t, NULL);
    } else if (ahead < -1000000000) {
        pace->done = 0; /* a second behind: begin anew rather than catch up in a burst */
    }
}

static void read_options(void)
{
    static char line[4096];
    int file = open("/proc/cmdline", O_RDONLY);
    ssize_t length = file < 0 ? 0 : read(file, line, sizeof line - 1);
    if (file >= 0)
        close(file);
    line[length > 0 ? length : 0] = 0;
    for (char *word = strtok(line, " \n"); word; word = strtok(NULL, " \n")) {
        char *value = strchr(word, '=');
        if (strncmp(word, "fabric.", 7) != 0 || !value)
            continue;
        *value++ = 0;
        word += 7;
        if (!strcmp(word, "workload"))
            snprintf(options.workload, sizeof options.workload, "%s", value);
        else if (!strcmp(word, "mb"))
            options.pages = strtoull(value, NULL, 10) * 256;
        else if (!strcmp(word, "rate"))
            options.rate = strtoull(value, NULL, 10);
        else if (!strcmp(word, "seed"))
            options.seed = strtoull(value, NULL, 10);
        else if (!strcmp(word, "stress-mb"))
            options.stress_mb = strtoull(value, NULL, 10);
        else if (!strcmp(word, "free-mb"))
            options.free_mb = strtoull(value, NULL, 10);
        else if (!strcmp(word, "keep"))
            options.keep = strtoull(value, NULL, 10);
        else if (!strcmp(word, "disk"))
            options.disk = !strcmp(value, "verify");
        else if (!strcmp(word, "ip"))
            options.net = 1; /* the address itself is set before this program begins */
        else if (!strcmp(word, "plant-error"))
            options.plant = atoi(value);
        else
            say("GUEST ERROR unknown option fabric.%s", word);
    }
    if (options.pages == 0)
        options.pages = 256;
}

static void stress_run(void)
{
    char bytes[32];
    snprintf(bytes, sizeof bytes, "%zuM", options.stress_mb);
    if (access("/usr/bin/stress-ng", X_OK) != 0) {
        say("STRESS ERROR stress-ng is not in this initramfs: boot the image printed as initrd_stress");
        return;
    }
    pid_t child = fork();
    if (child == 0) {
        execl("/usr/bin/stress-ng", "stress-ng", "--vm", "1", "--vm-bytes", bytes, "--vm-keep", "--verify", "--timeout", "0",
              "--temp-path", "/tmp", "--oomable", (char *)NULL); /* not -q: that would also silence a failed verification */
        _exit(127);
    }
    say("STRESS started bytes=%s", bytes);
    int status = 0;
    waitpid(child, &status, 0);
    atomic_fetch_add(&progress.errors, 1);
    /* With no timeout it never ends by itself: any end is a failed verification or a crash. */
    say("STRESS ERROR ended status=%d signal=%d", WIFEXITED(status) ? WEXITSTATUS(status) : -1, WIFSIGNALED(status) ? WTERMSIG(status) : 0);
}

static void *stress_thread(void *unused)
{
    (void)unused;
    stress_run();
    return NULL;
}

static void *disk_thread(void *unused)
{
    (void)unused;
    disk_run(&options, &progress);
    return NULL;
}

static void *workload_thread(void *unused)
{
    (void)unused;
    const char *name = options.workload;
    if (!strcmp(name, "oracle") || !strcmp(name, "stress-ng"))
        oracle_run(&options, &progress);
    else if (!strcmp(name, "read-heavy"))
        read_heavy_run(&options, &progress);
    else if (!strcmp(name, "write-heavy"))
        write_heavy_run(&options, &progress);
    else if (!strcmp(name, "compile-like"))
        compile_like_run(&options, &progress);
    else if (!strcmp(name, "quicksort"))
        quicksort_run(&options, &progress);
    else if (!strcmp(name, "freed"))
        freed_run(&options, &progress);
    else if (!strcmp(name, "grab"))
        grab_run(&options, &progress);
    else if (strcmp(name, "idle") != 0)
        say("GUEST ERROR unknown workload '%s': idle, oracle, read-heavy, write-heavy, compile-like, quicksort, freed, grab, stress-ng", name);
    return NULL;
}

static void start(void *(*body)(void *))
{
    pthread_t thread;
    pthread_attr_t attributes;
    pthread_attr_init(&attributes);
    pthread_attr_setstacksize(&attributes, 256 * 1024);
    if (pthread_create(&thread, &attributes, body, NULL) != 0)
        say("GUEST ERROR cannot start a thread");
    pthread_attr_destroy(&attributes);
}

int main(void)
{
    read_options();
    say("GUEST ready workload=%s mb=%zu rate=%llu seed=%llu", options.workload, options.pages / 256,
        (unsigned long long)options.rate, (unsigned long long)options.seed);
    if (!strcmp(options.workload, "stress-ng"))
        start(stress_thread);
    if (options.disk)
        start(disk_thread);
    if (options.net)
        net_start();
    start(workload_thread);
    /* The beat must not wait behind a busy workload: real-time priority. */
    struct sched_param parameter = { .sched_priority = 10 };
    if (sched_setscheduler(0, SCHED_FIFO, &parameter) != 0)
        say("GUEST ERROR no real-time priority: gaps include scheduling");
    mlockall(MCL_CURRENT);
    heartbeat_run(&options, &progress);
}
