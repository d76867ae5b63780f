/*
 * fabric-shim: preloaded into QEMU by the host agent (LD_PRELOAD). Before QEMU's main() it makes a userfaultfd of QEMU's
 * address space and hands a copy to the agent. One thread of it stays, asleep, for the one thing that the
 * kernel lets nobody do from outside: taking pages of a shared mapping out of QEMU's page table. Of the C library it takes the
 * place of malloc_trim only.
 *
 *     agent                                   QEMU process
 *       | listens on FABRIC_SHIM_SOCKET           |
 *       |---- fork, exec with LD_PRELOAD -------->| setsid; stdio to /dev/null and FABRIC_SHIM_LOG
 *       |                                         | userfaultfd, UFFDIO_API(FABRIC_SHIM_FEATURES)
 *       |<--- SCM_RIGHTS + struct hello ----------|
 *       |                                         | main()
 *       |==== struct range ======================>| thread: madvise(MADV_DONTNEED)
 *       |<=== struct outcome =====================|
 *
 * The last two go over a socket pair of which QEMU holds both ends; an agent takes a copy of its end with pidfd_getfd, so a restarted one
 * finds it again. The pages stay as they are in their file. When QEMU touches one again it is mapped again, by a fault of a microsecond: so
 * the agent learns which pages a guest uses, also those that it only reads.
 *
 * The process keeps its own copy of the userfaultfd open for ever: when the agent dies in the middle of a post-copy, the guest's
 * faults wait for the next agent, which takes the descriptor back with pidfd_getfd. Were the last copy closed, the kernel would
 * answer the faults with zero pages, silently.
 *
 * Exit statuses (the agent's error message carries the text from stderr too):
 *   71 bad environment   72 stdio   73 userfaultfd refused   74 features missing   75 agent's socket   76 sending   77 thread
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <dlfcn.h>
#include <limits.h>
#include <linux/userfaultfd.h>
#include <malloc.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <unistd.h>

#ifndef USERFAULTFD_IOC_NEW
#define USERFAULTFD_IOC_NEW _IO(0xAA, 0x00)
#endif

/* Read by the agent (Fabric.Machines, ShimHello): 32 bytes, host byte order. */
struct hello {
    uint32_t magic;
    uint32_t version;
    int32_t descriptor;
    int32_t process;
    uint64_t features;
    int32_t unmap; /* the agent's end of the socket pair */
    int32_t reserved;
};
_Static_assert(sizeof(struct hello) == 32, "the agent expects 32 bytes");

/* Sent by the agent, and what it hears (Fabric.Native, PageUnmapper). The tag comes back: an agent that died may have left answers. */
struct range {
    uint64_t tag;
    uint64_t start;
    uint64_t length;
};
struct outcome {
    uint64_t tag;
    int64_t error; /* 0, or -errno */
};
_Static_assert(sizeof(struct range) == 24 && sizeof(struct outcome) == 16, "the agent knows these sizes");

enum { HELLO_MAGIC = 0x48534246, HELLO_VERSION = 2 };

__attribute__((noreturn)) static void fail(int status, const char *what) {
    dprintf(STDERR_FILENO, "fabric-shim: %s: %s\n", what, strerror(errno));
    _exit(status);
}

static void redirect(const char *log) {
    int null = open("/dev/null", O_RDONLY | O_CLOEXEC);
    if (null < 0 || dup2(null, STDIN_FILENO) < 0)
        fail(72, "/dev/null");
    close(null);
    int out = open(log, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    if (out < 0 || dup2(out, STDERR_FILENO) < 0 || dup2(out, STDOUT_FILENO) < 0)
        fail(72, log);
    close(out);
}

static int open_userfaultfd(void) {
    int fd = (int)syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK);
    if (fd >= 0)
        return fd;
    /* Without privileges the device, if its permissions allow, does what the system call refuses. */
    int refused = errno;
    int device = open("/dev/userfaultfd", O_RDWR | O_CLOEXEC);
    if (device >= 0) {
        fd = ioctl(device, USERFAULTFD_IOC_NEW, O_CLOEXEC | O_NONBLOCK);
        close(device);
        if (fd >= 0)
            return fd;
    }
    errno = refused;
    fail(73, "userfaultfd (run as root, allow /dev/userfaultfd, or set vm.unprivileged_userfaultfd=1)");
}

static void send_hello(const char *path, struct hello *hello) {
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    if (strlen(path) >= sizeof address.sun_path) {
        errno = ENAMETOOLONG;
        fail(75, path);
    }
    strcpy(address.sun_path, path);
    int agent = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (agent < 0 || connect(agent, (struct sockaddr *)&address, sizeof address) != 0)
        fail(75, path);

    union {
        struct cmsghdr header;
        char space[CMSG_SPACE(sizeof(int))];
    } control;
    memset(&control, 0, sizeof control);
    struct iovec vector = {.iov_base = hello, .iov_len = sizeof *hello};
    struct msghdr message = {
        .msg_iov = &vector, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof control.space};
    struct cmsghdr *rights = CMSG_FIRSTHDR(&message);
    rights->cmsg_level = SOL_SOCKET;
    rights->cmsg_type = SCM_RIGHTS;
    rights->cmsg_len = CMSG_LEN(sizeof(int));
    memcpy(CMSG_DATA(rights), &hello->descriptor, sizeof(int));
    if (sendmsg(agent, &message, MSG_NOSIGNAL) != (ssize_t)sizeof *hello)
        fail(76, path);
    close(agent);
}

/* Ends with the process: QEMU keeps both ends of the pair open. */
static void *unmap_loop(void *argument) {
    int agent = (int)(intptr_t)argument;
    prctl(PR_SET_NAME, "fabric-shim");
    for (;;) {
        struct range range;
        ssize_t length = recv(agent, &range, sizeof range, 0);
        if (length == 0 || (length < 0 && errno != EINTR))
            return NULL;
        if (length != (ssize_t)sizeof range)
            continue;
        struct outcome outcome = {.tag = range.tag};
        if (madvise((void *)(uintptr_t)range.start, range.length, MADV_DONTNEED) != 0)
            outcome.error = -errno;
        send(agent, &outcome, sizeof outcome, MSG_NOSIGNAL | MSG_DONTWAIT);
    }
}

/* Returns the agent's end of the pair. QEMU's signals are for QEMU's threads: this one takes none. */
static int start_unmapping(void) {
    int pair[2];
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) != 0)
        fail(77, "socketpair");
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    pthread_attr_t attributes;
    pthread_attr_init(&attributes);
    pthread_attr_setstacksize(&attributes, PTHREAD_STACK_MIN < 65536 ? 65536 : PTHREAD_STACK_MIN);
    pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
    pthread_t thread;
    errno = pthread_create(&thread, &attributes, unmap_loop, (void *)(intptr_t)pair[1]);
    if (errno != 0)
        fail(77, "thread");
    pthread_attr_destroy(&attributes);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return pair[0];
}

/*
 * QEMU gives all freed memory back whenever its RCU thread has nothing to do, so also when it has come up and waits for a guest's device state.
 * Loading one takes about a MiB, and each page of it is a fault again while the guest stands: a millisecond and more. What is freed is kept, up to here.
 */
enum { KEPT_BYTES = 32 << 20 };

int malloc_trim(size_t pad) {
    if (mallinfo2().fordblks <= KEPT_BYTES)
        return 0;
    int (*trim)(size_t) = (int (*)(size_t))dlsym(RTLD_NEXT, "malloc_trim");
    return trim == NULL ? 0 : trim(pad);
}

static int is_qemu(void) {
    const char *name = program_invocation_short_name;
    return strncmp(name, "qemu-system", 11) == 0 || strncmp(name, "qemu-kvm", 8) == 0;
}

__attribute__((constructor)) static void fabric_shim(void) {
    const char *path = getenv("FABRIC_SHIM_SOCKET");
    /* A shell or a wrapper that goes on to exec QEMU is preloaded too: leave it, and the environment, alone. */
    if (path == NULL || !is_qemu())
        return;
    const char *log = getenv("FABRIC_SHIM_LOG");
    const char *wanted = getenv("FABRIC_SHIM_FEATURES");
    if (log == NULL || wanted == NULL) {
        errno = EINVAL;
        fail(71, "FABRIC_SHIM_LOG or FABRIC_SHIM_FEATURES is not set");
    }

    setsid(); /* A Ctrl-C at the agent's terminal is not for the guest. Fails only where it is not needed. */
    redirect(log);
    int fd = open_userfaultfd();
    struct uffdio_api api = {.api = UFFD_API, .features = strtoull(wanted, NULL, 0)};
    if (ioctl(fd, UFFDIO_API, &api) != 0)
        fail(74, "userfaultfd features (Linux 6.7 or newer is needed)");
    struct hello hello = {
        .magic = HELLO_MAGIC, .version = HELLO_VERSION, .descriptor = fd, .process = getpid(), .features = api.features,
        .unmap = start_unmapping()};
    send_hello(path, &hello);

    /* fd stays open: see above. What QEMU starts later must not be preloaded. */
    unsetenv("LD_PRELOAD");
    unsetenv("FABRIC_SHIM_SOCKET");
    unsetenv("FABRIC_SHIM_LOG");
    unsetenv("FABRIC_SHIM_FEATURES");
}
