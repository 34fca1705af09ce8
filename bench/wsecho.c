/* The echo server of bench/websocket.py: `wsecho PORT` sends every message back, whole.

   It is a session's server too: a request that is no upgrade is answered with 200. */

#include "ws.h"

enum { BACKLOG = 4096 };

static const char GREETING[] = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n"
                               "Connection: Upgrade\r\nSec-WebSocket-Accept: " ACCEPT "\r\n\r\n";
static const char NOTHING[] = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";

/* Answer a request; false when the connection is to end. */
static bool greet(struct connection *c) {
    size_t size = head_size(c);
    if (size == 0)
        return true;
    bool upgrade = strstr((char *)c->in, KEY) != NULL;
    drop(c, size);
    if (upgrade)
        c->state = OPEN;
    return upgrade ? put(c, GREETING, sizeof GREETING - 1) : put(c, NOTHING, sizeof NOTHING - 1);
}

/* Answer what has come, one frame after the other; false when the connection is to end. */
static bool answer(struct connection *c) {
    struct frame frame;
    while (c->left == 0 && whole(c, &frame)) {
        uint8_t *payload = c->in + frame.header, opcode = frame.first & 0xf, header[MOST_OF_HEADER];
        if (!frame.masked)
            return false;
        xor(payload, frame.payload, payload - 4);
        /* Without a mask, the header is shorter than the one that stands there. */
        uint8_t first = opcode == PING ? FIN | PONG : frame.first;
        size_t size = write_header(header, first, 0, frame.payload);
        memcpy(payload - size, header, size);
        c->used = frame.header + frame.payload;
        if (opcode != PONG && !put(c, payload - size, size + frame.payload))
            return false;
        if (opcode == CLOSE)
            return false;
        if (c->left == 0)
            drop(c, c->used);
    }
    return true;
}

/* Send what could not be sent, or read and answer; false when the connection is to end. */
static bool serve(struct connection *c) {
    if (c->left) {
        if (!flush(c) || c->left)
            return c->left;
        watch(EPOLL_CTL_MOD, c->fd, EPOLLIN, c);
        drop(c, c->used);
        return answer(c);
    }
    for (;;) {
        size_t room = c->room - c->have;
        ssize_t count = take(c);
        if (count <= 0)
            return count < 0;
        if (c->state != OPEN && !greet(c))
            return false;
        if (c->state == OPEN && !answer(c))
            return false;
        if ((size_t)count != room || c->left)
            return true;
    }
}

static void welcome(int listener) {
    int fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
    if (fd < 0) {
        if (errno != EAGAIN && errno != ECONNABORTED)
            die("accept: %s", strerror(errno));
        return;
    }
    without_delay(fd);
    struct connection *c = memory(NULL, sizeof *c);
    *c = (struct connection){.fd = fd, .state = ASKING};
    watch(EPOLL_CTL_ADD, fd, EPOLLIN, c);
}

static int listen_on(const char *port) {
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0), yes = 1;
    struct sockaddr_in address = loopback(port);
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes);
    if (bind(listener, (struct sockaddr *)&address, sizeof address) || listen(listener, BACKLOG))
        die("port %s: %s", port, strerror(errno));
    return listener;
}

int main(int count, char **words) {
    if (count != 2)
        die("usage: wsecho PORT");
    prepare();
    int listener = listen_on(words[1]);
    watch(EPOLL_CTL_ADD, listener, EPOLLIN, NULL);
    for (;;) {
        struct epoll_event events[EVENTS];
        int ready = epoll_wait(poller, events, EVENTS, -1);
        for (int at = 0; at < ready; at++) {
            struct connection *c = events[at].data.ptr;
            if (c == NULL) {
                welcome(listener);
            } else if (!serve(c)) {
                hang_up(c);
                free(c);
            }
        }
    }
}
