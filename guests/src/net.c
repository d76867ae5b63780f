/*
 * Two TCP services for a client that watches a move from outside.
 *
 *      7000 echo   what comes is sent back
 *      7001 tick   every millisecond 8 bytes: a number that begins at 1 and goes up by one, little-endian
 *
 * A client of the first sees what happens to frames on their way to the guest, one of the second what happens to those on their way from it. One thread a client, a few clients at a
 * time; real-time priority below the heartbeat's, so that what the client sees is the network's time and not the workload's.
 */
#define _GNU_SOURCE
#include "guest.h"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <sched.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { ECHO_PORT = 7000, TICK_PORT = 7001, CLIENTS = 8 };

static const int64_t tick_ns = 1000000;
static _Atomic int clients;

static int send_all(int client, const uint8_t *bytes, size_t length)
{
    while (length > 0) {
        ssize_t sent = send(client, bytes, length, MSG_NOSIGNAL);
        if (sent <= 0)
            return 0;
        bytes += sent;
        length -= (size_t)sent;
    }
    return 1;
}

static void *echo(void *argument)
{
    int client = (int)(intptr_t)argument;
    uint8_t bytes[4096];
    for (ssize_t got; (got = recv(client, bytes, sizeof bytes, 0)) > 0;)
        if (!send_all(client, bytes, (size_t)got))
            break;
    close(client);
    atomic_fetch_sub(&clients, 1);
    return NULL;
}

static void *tick(void *argument)
{
    int client = (int)(intptr_t)argument;
    struct timespec wait = { 0, tick_ns };
    for (uint64_t number = 1; send_all(client, (const uint8_t *)&number, sizeof number); number++)
        nanosleep(&wait, NULL);
    close(client);
    atomic_fetch_sub(&clients, 1);
    return NULL;
}

static int begin(void *(*body)(void *), void *argument)
{
    pthread_t thread;
    pthread_attr_t attributes;
    struct sched_param parameter = { .sched_priority = 5 };
    pthread_attr_init(&attributes);
    pthread_attr_setstacksize(&attributes, 256 * 1024);
    pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
    pthread_attr_setinheritsched(&attributes, PTHREAD_EXPLICIT_SCHED);
    pthread_attr_setschedpolicy(&attributes, SCHED_FIFO);
    pthread_attr_setschedparam(&attributes, &parameter);
    int failed = pthread_create(&thread, &attributes, body, argument);
    pthread_attr_destroy(&attributes);
    if (failed)
        say("GUEST ERROR cannot start a thread for the network");
    return !failed;
}

static void *serve(void *argument)
{
    int port = (int)(intptr_t)argument;
    int door = socket(AF_INET, SOCK_STREAM, 0), yes = 1;
    struct sockaddr_in address = { .sin_family = AF_INET, .sin_port = htons((uint16_t)port), .sin_addr.s_addr = INADDR_ANY };
    setsockopt(door, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes);
    if (bind(door, (struct sockaddr *)&address, sizeof address) != 0 || listen(door, CLIENTS) != 0) {
        say("GUEST ERROR cannot serve TCP port %d", port);
        return NULL;
    }
    say("NET ready port=%d", port);
    for (;;) {
        int client = accept(door, NULL, NULL);
        if (client < 0)
            continue;
        setsockopt(client, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes);
        if (atomic_fetch_add(&clients, 1) >= CLIENTS || !begin(port == ECHO_PORT ? echo : tick, (void *)(intptr_t)client)) {
            close(client);
            atomic_fetch_sub(&clients, 1);
        }
    }
}

void net_start(void)
{
    begin(serve, (void *)(intptr_t)ECHO_PORT);
    begin(serve, (void *)(intptr_t)TICK_PORT);
}
