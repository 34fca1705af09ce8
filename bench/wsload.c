/* The load of bench/websocket.py: `wsload PORT HEAD CONNECTIONS AT_ONCE SIZE`.

   Opens CONNECTIONS WebSockets on 127.0.0.1, AT_ONCE at a time, each with the request HEAD, prints
   `opened COUNT FAILED NANOSECONDS` and reads orders. `run SECONDS` lets each of them send a binary
   message of SIZE bytes, no two alike, and the next one when the echo of that has come, until the
   time is over and the last echo is here; for 0 seconds that is one message each. It then prints
   `ran MESSAGES NANOSECONDS MEDIAN P99 PINGS`: latencies in nanoseconds, and how many pings were
   answered since the last order. An echo that is wrong or does not come, and a connection that ends,
   end the program with status 1 and a line that says so. The end of the orders is its end too. */

#include "ws.h"

#include <time.h>

enum { PATIENCE_SECONDS = 60, LONGEST_MICROSECONDS = 1 << 20, LINE = 80 };

static const uint8_t MASK[4] = {0x37, 0xfa, 0x21, 0x3d};

struct client {
    struct connection wire;
    uint8_t *message; /* a whole frame, its payload at `body` */
    uint64_t number;  /* what the payload begins with */
    int64_t sent;
    uint8_t pong[6 + MOST_OF_CONTROL];
};

static struct sockaddr_in address;
static const char *head;
static struct client *clients;
static int wanted, at_once, begun, opened, failed; /* connections */
static int64_t opening_began;

static uint8_t *payload; /* what every message says, but for its first 8 bytes */
static size_t size, body;
static uint64_t next_number;
static int64_t run_began, run_ends, last_echo;
static long awaited, messages, pings;
static uint32_t latencies[LONGEST_MICROSECONDS]; /* how many took so many microseconds */

static int64_t now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return time.tv_sec * INT64_C(1000000000) + time.tv_nsec;
}

/* --- opening -------------------------------------------------------------------------------- */

static void tell_opened(void) {
    printf("opened %d %d %ld\n", opened, failed, now() - opening_began);
    fflush(stdout);
}

static void dial(struct client *client) {
    struct connection *c = &client->wire;
    c->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (c->fd < 0)
        die("socket: %s", strerror(errno));
    without_delay(c->fd);
    if (connect(c->fd, (struct sockaddr *)&address, sizeof address) && errno != EINPROGRESS)
        die("connect: %s", strerror(errno));
    watch(EPOLL_CTL_ADD, c->fd, EPOLLOUT, c);
}

static void open_more(void) {
    while (begun < wanted && begun - opened - failed < at_once)
        dial(&clients[begun++]);
}

static void opening_ended(bool well) {
    *(well ? &opened : &failed) += 1;
    open_more();
    if (opened + failed == wanted)
        tell_opened();
}

static void fail_to_open(struct connection *c, const char *why) {
    if (failed == 0)
        fprintf(stderr, "the first that did not open: %s\n", why);
    hang_up(c);
    opening_ended(false);
}

/* Go on with the handshake. */
static void shake_hands(struct connection *c) {
    if (c->state == DIALLING) {
        int fault = 0;
        socklen_t length = sizeof fault;
        getsockopt(c->fd, SOL_SOCKET, SO_ERROR, &fault, &length);
        ssize_t count = fault ? -1 : send(c->fd, head, strlen(head), MSG_NOSIGNAL);
        if (count != (ssize_t)strlen(head)) {
            fail_to_open(c, strerror(fault ? fault : errno));
            return;
        }
        c->state = ASKING;
        watch(EPOLL_CTL_MOD, c->fd, EPOLLIN, c);
        return;
    }
    ssize_t count = take(c);
    if (count == 0)
        fail_to_open(c, "the connection was ended before a whole answer");
    size_t length = count > 0 ? head_size(c) : 0;
    if (length == 0)
        return;
    const char *answer = (const char *)c->in;
    if (strncmp(answer, "HTTP/1.1 101 ", 13) || strstr(answer, ACCEPT) == NULL) {
        fail_to_open(c, answer);
        return;
    }
    drop(c, length);
    c->state = OPEN;
    opening_ended(true);
}

/* --- messages ------------------------------------------------------------------------------- */

static void say(struct client *client, int64_t at) {
    if (client->message == NULL) {
        client->message = memory(NULL, MOST_OF_HEADER + size);
        body = write_header(client->message, FIN | BINARY, MASKED, size);
        memcpy(client->message + body, MASK, 4);
        body += 4;
        memcpy(client->message + body, payload, size);
        xor(client->message + body, size, MASK);
    }
    client->number = next_number++;
    memcpy(client->message + body, &client->number, 8);
    xor(client->message + body, 8, MASK);
    client->sent = at;
    if (!put(&client->wire, client->message, body + size))
        die("a connection was lost: %s", strerror(errno));
}

static long microseconds(long rank) {
    long at = 0;
    for (long seen = latencies[0]; seen <= rank && at < LONGEST_MICROSECONDS - 1;)
        seen += latencies[++at];
    return at;
}

static void tell_ran(void) {
    long median = microseconds(messages / 2) * 1000, p99 = microseconds(messages * 99 / 100) * 1000;
    printf("ran %ld %ld %ld %ld %ld\n", messages, last_echo - run_began, median, p99, pings);
    fflush(stdout);
    pings = 0;
}

static void echoed(struct client *client, const uint8_t *echo) {
    if (memcmp(echo, &client->number, 8) || memcmp(echo + 8, payload + 8, size - 8))
        die("an echo is not what was sent");
    int64_t at = last_echo = now();
    int64_t took = (at - client->sent) / 1000;
    latencies[took < LONGEST_MICROSECONDS ? took : LONGEST_MICROSECONDS - 1]++;
    client->sent = 0;
    messages++;
    if (at < run_ends)
        say(client, at);
    else if (--awaited == 0)
        tell_ran();
}

static void pong(struct client *client, const uint8_t *said, size_t length) {
    pings++;
    write_header(client->pong, FIN | PONG, MASKED, length);
    memcpy(client->pong + 2, MASK, 4);
    memcpy(client->pong + 6, said, length);
    xor(client->pong + 6, length, MASK);
    if (!put(&client->wire, client->pong, 6 + length))
        die("a connection was lost: %s", strerror(errno));
}

static void hear(struct client *client) {
    struct connection *c = &client->wire;
    struct frame frame;
    while (c->left == 0 && whole(c, &frame)) {
        const uint8_t *said = c->in + frame.header;
        if (frame.first == (FIN | PING) && frame.payload <= MOST_OF_CONTROL)
            pong(client, said, frame.payload);
        else if (frame.first != (FIN | BINARY) || frame.masked || frame.payload != size)
            die("a frame that is no echo: opcode %d, %zu bytes", frame.first & 0xf, frame.payload);
        else if (client->sent == 0)
            die("an echo of nothing");
        else
            echoed(client, said);
        drop(c, frame.header + frame.payload);
    }
}

/* Send what could not be sent, or hear what has come. */
static void serve(struct client *client) {
    struct connection *c = &client->wire;
    if (c->left) {
        if (!flush(c))
            die("a connection was lost: %s", strerror(errno));
        if (c->left)
            return;
        watch(EPOLL_CTL_MOD, c->fd, EPOLLIN, c);
        hear(client);
        return;
    }
    size_t room;
    ssize_t count;
    do {
        room = c->room - c->have;
        count = take(c);
        if (count == 0)
            die("a connection was ended");
        hear(client);
    } while (count > 0 && (size_t)count == room && c->left == 0);
}

static void obey(void) {
    char line[LINE + 1] = "";
    ssize_t count = read(STDIN_FILENO, line, LINE);
    if (count <= 0)
        exit(0);
    if (strncmp(line, "run ", 4) || awaited || opened == 0)
        die("no order for now: %s", line);
    memset(latencies, 0, sizeof latencies);
    messages = 0;
    awaited = opened;
    run_began = last_echo = now();
    run_ends = run_began + (int64_t)(atof(line + 4) * 1e9);
    for (int at = 0; at < wanted; at++)
        if (clients[at].wire.state == OPEN)
            say(&clients[at], now());
}

/* Nothing is waited for without end. */
static void lose_patience(void) {
    if (awaited && now() - last_echo > PATIENCE_SECONDS * INT64_C(1000000000))
        die("%ld echoes do not come", awaited);
    if (opened + failed == wanted || now() - opening_began < PATIENCE_SECONDS * INT64_C(1000000000))
        return;
    for (int at = 0; at < begun; at++)
        if (clients[at].wire.fd >= 0 && clients[at].wire.state != OPEN)
            fail_to_open(&clients[at].wire, "no answer in time");
}

int main(int count, char **words) {
    if (count != 6)
        die("usage: wsload PORT HEAD CONNECTIONS AT_ONCE SIZE");
    prepare();
    address = loopback(words[1]);
    head = words[2];
    wanted = atoi(words[3]);
    at_once = atoi(words[4]);
    size = atoi(words[5]);
    clients = calloc(wanted, sizeof *clients);
    payload = memory(NULL, size);
    for (size_t at = 0; at < size; at++)
        payload[at] = at * 7 + 13;
    watch(EPOLL_CTL_ADD, STDIN_FILENO, EPOLLIN, NULL);
    opening_began = now();
    open_more();
    for (;;) {
        struct epoll_event events[EVENTS];
        int ready = epoll_wait(poller, events, EVENTS, 1000);
        for (int at = 0; at < ready; at++) {
            struct connection *c = events[at].data.ptr;
            if (c == NULL)
                obey();
            else if (c->state != OPEN)
                shake_hands(c);
            else
                serve((struct client *)c);
        }
        lose_patience();
    }
}
