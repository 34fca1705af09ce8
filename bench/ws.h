/* What the load and the echo server of bench/websocket.py share: connections of an epoll loop, and
   the frames on them (RFC 6455 section 5). */

#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

enum { BINARY = 0x2, CLOSE = 0x8, PING = 0x9, PONG = 0xA, FIN = 0x80, MASKED = 0x80 };
enum { ROOM = 2048, MOST_ROOM = 1 << 24, MOST_OF_HEADER = 14, MOST_OF_CONTROL = 125, EVENTS = 256 };

/* The example of RFC 6455 section 1.3: with one key for all, nobody has to compute a SHA-1. */
#define KEY "dGhlIHNhbXBsZSBub25jZQ=="
#define ACCEPT "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="

struct connection {
    int fd;
    enum { DIALLING, ASKING, OPEN } state;
    uint8_t *in; /* what has come and was not used */
    size_t have, room;
    const uint8_t *out; /* what is still to be sent */
    size_t left;
    size_t used; /* how much of what has come is done with when that is sent */
};

struct frame {
    uint8_t first;
    bool masked;
    size_t header, payload;
};

static int poller;

__attribute__((noreturn, format(printf, 1, 2))) static void die(const char *format, ...) {
    va_list words;
    va_start(words, format);
    vfprintf(stderr, format, words);
    va_end(words);
    fputc('\n', stderr);
    exit(1);
}

static void *memory(void *old, size_t size) {
    void *new = realloc(old, size);
    if (new == NULL)
        die("out of memory");
    return new;
}

/* As many files as the system lets a process open, and the poller. */
static void prepare(void) {
    struct rlimit files;
    getrlimit(RLIMIT_NOFILE, &files);
    files.rlim_cur = files.rlim_max;
    setrlimit(RLIMIT_NOFILE, &files);
    poller = epoll_create1(EPOLL_CLOEXEC);
}

static void watch(int operation, int fd, uint32_t events, struct connection *c) {
    struct epoll_event event = {.events = events, .data.ptr = c};
    if (epoll_ctl(poller, operation, fd, &event) < 0)
        die("epoll_ctl: %s", strerror(errno));
}

static struct sockaddr_in loopback(const char *port) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(atoi(port))};
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    return address;
}

/* Send at once, and without the pacing that the system's own congestion control may do. */
static void without_delay(int fd) {
    int yes = 1;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes);
    setsockopt(fd, IPPROTO_TCP, TCP_CONGESTION, "reno", strlen("reno"));
}

static void hang_up(struct connection *c) {
    close(c->fd);
    free(c->in);
    c->in = NULL;
    c->fd = -1;
}

/* Send what is left; false when the connection has failed. */
static bool flush(struct connection *c) {
    ssize_t count = send(c->fd, c->out, c->left, MSG_NOSIGNAL);
    if (count < 0)
        return errno == EAGAIN;
    c->out += count;
    c->left -= count;
    return true;
}

/* Send these bytes, now or as soon as they are taken, and read nothing before. */
static bool put(struct connection *c, const void *out, size_t size) {
    c->out = out;
    c->left = size;
    if (!flush(c))
        return false;
    if (c->left)
        watch(EPOLL_CTL_MOD, c->fd, EPOLLOUT, c);
    return true;
}

/* Read once: how many bytes came, -1 when there were none, 0 when the connection is over. */
static ssize_t take(struct connection *c) {
    if (c->in == NULL)
        c->in = memory(NULL, c->room = ROOM);
    ssize_t count = recv(c->fd, c->in + c->have, c->room - c->have, 0);
    if (count < 0)
        return errno == EAGAIN ? -1 : 0;
    c->have += count;
    return count;
}

static void drop(struct connection *c, size_t size) {
    c->have -= size;
    memmove(c->in, c->in + size, c->have);
}

/* The bytes of the head that has come, which is made a string; 0 when it is not whole. */
static size_t head_size(struct connection *c) {
    char *blank = memmem(c->in, c->have, "\r\n\r\n", 4);
    if (blank == NULL) {
        if (c->have == c->room)
            c->in = memory(c->in, c->room *= 2);
        return 0;
    }
    *blank = '\0';
    return (uint8_t *)blank + 4 - c->in;
}

/* Whether a whole frame has come; when it has begun, there is room for it. */
static bool whole(struct connection *c, struct frame *frame) {
    if (c->have < 2)
        return false;
    size_t length = c->in[1] & 0x7f, wide = length == 127 ? 8 : length == 126 ? 2 : 0;
    frame->first = c->in[0];
    frame->masked = c->in[1] & MASKED;
    frame->header = 2 + wide + (frame->masked ? 4 : 0);
    if (c->have < frame->header)
        return false;
    frame->payload = wide ? 0 : length;
    for (size_t at = 2; at < 2 + wide; at++)
        frame->payload = frame->payload << 8 | c->in[at];
    if (frame->payload > MOST_ROOM)
        die("a frame of %zu bytes has come", frame->payload);
    size_t size = frame->header + frame->payload;
    if (size > c->room)
        c->in = memory(c->in, c->room = size);
    return c->have >= size;
}

/* Write the header of a frame but for its mask, and return its size. */
static size_t write_header(uint8_t *at, uint8_t first, uint8_t masked, size_t payload) {
    size_t wide = payload > 0xffff ? 8 : payload > 125 ? 2 : 0;
    at[0] = first;
    at[1] = masked | (wide == 8 ? 127 : wide == 2 ? 126 : payload);
    for (size_t left = wide; left > 0; left--)
        at[1 + left] = payload >> 8 * (wide - left);
    return 2 + wide;
}

static void xor(uint8_t *payload, size_t size, const uint8_t *mask) {
    uint64_t both, word;
    memcpy(&both, mask, 4);
    memcpy((uint8_t *)&both + 4, mask, 4);
    size_t at = 0;
    for (; at + 8 <= size; at += 8) {
        memcpy(&word, payload + at, 8);
        word ^= both;
        memcpy(payload + at, &word, 8);
    }
    for (; at < size; at++)
        payload[at] ^= mask[at % 4];
}
