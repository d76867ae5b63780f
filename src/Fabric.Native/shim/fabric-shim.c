/*
 * fabric-shim: preloaded into QEMU by the host agent (LD_PRELOAD). Before QEMU's main() it makes a userfaultfd of QEMU's
 * address space and hands a copy to the agent. It interposes nothing and runs nothing afterwards.
 *
 *     agent                                   QEMU process
 *       | listens on FABRIC_SHIM_SOCKET           |
 *       |---- fork, exec with LD_PRELOAD -------->| setsid; stdio to /dev/null and FABRIC_SHIM_LOG
 *       |                                         | userfaultfd, UFFDIO_API(FABRIC_SHIM_FEATURES)
 *       |<--- SCM_RIGHTS + struct hello ----------|
 *       |                                         | main()
 *
 * The process keeps its own copy of the userfaultfd open for ever: when the agent dies in the middle of a post-copy, the guest's
 * faults wait for the next agent, which takes the descriptor back with pidfd_getfd. Were the last copy closed, the kernel would
 * answer the faults with zero pages, silently.
 *
 * Exit statuses (the agent's error message carries the text from stderr too):
 *   71 bad environment   72 stdio   73 userfaultfd refused   74 features missing   75 agent's socket   76 sending
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <unistd.h>

#ifndef USERFAULTFD_IOC_NEW
#define USERFAULTFD_IOC_NEW _IO(0xAA, 0x00)
#endif

/* Read by the agent (Fabric.Machines, ShimHello): five fields, 32 bytes, host byte order. */
struct hello {
    uint32_t magic;
    uint32_t version;
    int32_t descriptor;
    int32_t process;
    uint64_t features;
    uint64_t reserved;
};
_Static_assert(sizeof(struct hello) == 32, "the agent expects 32 bytes");

enum { HELLO_MAGIC = 0x48534246, HELLO_VERSION = 1 };

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
    struct hello hello = {.magic = HELLO_MAGIC, .version = HELLO_VERSION, .descriptor = fd, .process = getpid(), .features = api.features};
    send_hello(path, &hello);

    /* fd stays open: see above. What QEMU starts later must not be preloaded. */
    unsetenv("LD_PRELOAD");
    unsetenv("FABRIC_SHIM_SOCKET");
    unsetenv("FABRIC_SHIM_LOG");
    unsetenv("FABRIC_SHIM_FEATURES");
}
