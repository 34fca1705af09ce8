"""What each call takes, step by step: retries, pages, streams that come back; no input or output.

A flow is a generator of steps. Whoever drives it does each step, sends back what came of it or
throws in what failed, and hands on what it tells; so the blocking client and the asynchronous one
cannot differ.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Generator, Iterable, Mapping
from typing import Any, Generic, TypeVar

import attrs

from plane_tx.client import calls, models, reading
from plane_tx.client.calls import Call
from plane_tx.client.errors import (
    PlaneClientError,
    SessionFailed,
    Silent,
    TimedOut,
    Unavailable,
    Unreached,
    Unreadable,
)
from plane_tx.client.events import EventReader

T = TypeVar("T")

#: Answers after which the same request may fare better.
TRY_AGAIN = frozenset({429, 502, 503, 504})

#: A stream has a comment every 15 s, so that one as silent as this is broken.
SILENCE_SECONDS = 45.0

#: Samples of many sessions come every 2 s, but their stream stays open when all have ended.
SAMPLES_SILENCE_SECONDS = 5.0

#: While a deadline runs, a stream is looked at as often as this.
GLANCE_SECONDS = 2.0


@attrs.frozen
class Send:
    """Send a request and read its whole answer; what comes of it is an `Answer`."""

    call: Call[Any]


@attrs.frozen
class Open:
    """Send a request and read the head of its answer; after 200 the stream stays open."""

    call: Call[Any]
    silence_seconds: float = SILENCE_SECONDS


@attrs.frozen
class Read:
    """Read on in the stream that is open; what comes of it are bytes, none at its end."""


@attrs.frozen
class Sleep:
    """Wait."""

    seconds: float


@attrs.frozen
class Tell:
    """Hand this on to whoever asked."""

    value: Any


@attrs.frozen
class Answer:
    """A status, headers by their lower-case names, and the body as far as it was read."""

    status: int
    headers: Mapping[str, str]
    body: bytes = attrs.field(default=b"", repr=False)


Step = Send | Open | Read | Sleep | Tell
Flow = Generator[Step, Any, T]


@attrs.frozen(kw_only=True)
class Patience:
    """How often what failed is tried again, and how long is waited before.

    A stream that has been open is taken up again up to `stream_retries` times in a row: a server
    may restart meanwhile.

    The wait before the n-th time is chosen at random up to `first_seconds` doubled n times, and
    `longest_seconds` at most. A Retry-After is waited for, unless it is longer than that.
    """

    retries: int = 3
    stream_retries: int = 8
    first_seconds: float = 0.2
    longest_seconds: float = 10.0
    dice: Callable[[], float] = random.random
    clock: Callable[[], float] = time.monotonic

    def pause(
        self, failures: int, error: PlaneClientError, *, was_open: bool = False
    ) -> float | None:
        """How many seconds to wait after so many failures in a row; None to give up."""
        may = isinstance(error, Unavailable) or error.status in TRY_AGAIN
        if not may or failures > (self.stream_retries if was_open else self.retries):
            return None
        if error.retry_after is not None:
            return error.retry_after if error.retry_after <= self.longest_seconds else None
        most = min(self.longest_seconds, self.first_seconds * 2.0**failures)
        return most * (0.5 + self.dice() / 2)


def whole(call: Call[T], patience: Patience) -> Flow[T]:
    """The answer of one call, read as JSON."""
    body = yield from download(call, patience)
    return call.read(reading.parsed(body))


def download(call: Call[Any], patience: Patience) -> Flow[bytes]:
    """The body of one call's answer; the call is made again only if that can do no harm."""
    failures = 0
    while True:
        try:
            answer: Answer = yield Send(call)
            if answer.status not in call.statuses:
                raise reading.error(answer.status, answer.headers, answer.body)
        except PlaneClientError as error:
            failures += 1
            # What was never sent can do nothing twice either.
            may = call.again or isinstance(error, Unreached)
            pause = patience.pause(failures, error) if may else None
            if pause is None:
                raise
        else:
            return answer.body
        yield Sleep(pause)


def every_session(filters: calls.Filters, patience: Patience) -> Flow[None]:
    """Tell each session that fits, page by page."""
    after, seen = None, set[str]()
    while True:
        page = yield from whole(calls.page(filters, after), patience)
        for each in page.backends:
            yield Tell(each)
        after = page.next
        if after is None:
            return
        if after in seen:
            raise Unreadable("the answer makes no sense: the list leads back to itself")
        seen.add(after)


class Follower(Generic[T]):
    """Tells what a stream of events tells, and takes it up again where it broke."""

    def __init__(
        self,
        call: Call[T],
        patience: Patience,
        *,
        is_last: Callable[[T], bool] = lambda _: False,
        is_over: Callable[[], Flow[bool]] | None = None,
        deadline: float | None = None,
        silence_seconds: float = SILENCE_SECONDS,
    ) -> None:
        """`is_last` is asked of each event, `is_over` when the stream ends without the last one.

        Without `is_over` there is always more to come. `deadline` is of `patience.clock`.
        """
        self._call = call
        self._patience = patience
        self._is_last = is_last
        self._is_over = is_over
        self._deadline = deadline
        self._longest_silence = silence_seconds
        self._failures = 0
        self._was_open = False
        self._last_id = ""

    def run(self) -> Flow[T | None]:
        """Tell every event; the result is the last one, or None where there was no such.

        Raises `TimedOut` at the deadline, or `GLANCE_SECONDS` later.
        """
        while True:
            error: PlaneClientError = Unavailable("the stream ended before its time")
            try:
                is_over, value = yield from self._once()
                if is_over or (self._is_over and (yield from self._is_over())):
                    return value
            except PlaneClientError as caught:
                error = caught
            if self._remaining() <= 0:
                raise TimedOut("what was waited for did not happen in time") from error
            if isinstance(error, Silent) and self._deadline is not None:
                continue
            self._failures += 1
            pause = self._patience.pause(self._failures, error, was_open=self._was_open)
            if pause is None:
                raise error
            yield Sleep(min(pause, self._remaining()))

    def _once(self) -> Flow[tuple[bool, T | None]]:
        head: Answer = yield Open(self._resumed(), self._silence_seconds())
        if head.status == 204:
            return True, None
        if head.status != 200:
            raise reading.error(head.status, head.headers, head.body)
        kind = head.headers.get("content-type", "").partition(";")[0].strip()
        if kind != "text/event-stream":
            raise Unreadable("the answer is no stream of events: is this the control listener?")
        reader = EventReader(self._last_id)
        while data := (yield Read()):
            self._failures, self._was_open = 0, True
            for event in reader.feed(data):
                value = self._call.read(reading.parsed(event.data.encode("utf-8")))
                self._last_id = event.last_id
                yield Tell(value)
                if self._is_last(value):
                    return True, value
            if self._remaining() <= 0:
                break
        return False, None

    def _resumed(self) -> Call[T]:
        headers = {**self._call.headers, "Accept": "text/event-stream"}
        # It came from the server, and what cannot stand in a header is no id of ours.
        if self._last_id and self._last_id.isascii() and self._last_id.isprintable():
            headers["Last-Event-ID"] = self._last_id
        return attrs.evolve(self._call, headers=headers)

    def _remaining(self) -> float:
        if self._deadline is None:
            return float("inf")
        return self._deadline - self._patience.clock()

    def _silence_seconds(self) -> float:
        if self._deadline is None:
            return self._longest_silence
        return max(0.01, min(GLANCE_SECONDS, self._remaining()))


def status_updates(session_id: str, patience: Patience) -> Flow[Any]:
    """Tell each status of a session, and how far a pull has come, up to `terminated`."""
    call = calls.status_stream(session_id)
    return Follower(call, patience, is_last=lambda told: told.status == "terminated").run()


def ready(
    session_id: str, patience: Patience, timeout_seconds: float | None
) -> Flow[models.StatusUpdate]:
    """Tell each status until the session is ready.

    Raises `SessionFailed` when it ends first, or has ended since; `TimedOut`, after which the
    session goes on; `Unreached` where there is no server any more.
    """
    deadline = None if timeout_seconds is None else patience.clock() + timeout_seconds
    ends = models.ENDING | {"ready"}
    call = calls.status_stream(session_id)
    follower = Follower(call, patience, is_last=lambda told: told.status in ends, deadline=deadline)
    try:
        update = yield from follower.run()
    except TimedOut as late:
        if isinstance(late.__cause__, Unreached):
            raise late.__cause__ from None
        raise TimedOut(
            f"the session {session_id} was not ready in {timeout_seconds:g} s; it goes on: wait"
            " longer, or ask why"
        ) from late.__cause__
    if update is not None and update.status == "ready":
        # The stream begins with all that was: the session may have ended since.
        update = yield from whole(calls.last_status(session_id), patience)
    if update is None or update.status in models.ENDING:
        raise SessionFailed((yield from _why_it_failed(session_id, patience)))
    return update


def _why_it_failed(session_id: str, patience: Patience) -> Flow[str]:
    try:
        why = yield from whole(calls.why(session_id), patience)
    except PlaneClientError:
        # A key that may only connect does not learn why.
        return f"the session {session_id} has ended"
    return why.summary


def kept_lines(
    session_id: str, tail: int | None, since: int | None, patience: Patience
) -> Flow[None]:
    """Tell the lines that a session has written."""
    logs = yield from whole(calls.logs(session_id, tail, since), patience)
    for line in logs.lines:
        yield Tell(line)


def log_lines(
    session_id: str, tail: int | None, since: int | None, patience: Patience
) -> Flow[Any]:
    """Tell the lines of a session as they come, until it has ended."""
    call = calls.log_stream(session_id, tail, since)
    return Follower(call, patience, is_over=lambda: _has_ended(session_id, patience)).run()


def samples(session_id: str, patience: Patience) -> Flow[Any]:
    """Tell what a session takes, every second, until it has ended."""
    call = calls.stats_stream(session_id)
    return Follower(call, patience, is_over=lambda: _has_ended(session_id, patience)).run()


def samples_of_many(session_ids: Iterable[str], patience: Patience) -> Flow[Any]:
    """Tell what each of these takes, every two seconds, until all of them have ended."""
    call = calls.stats_stream_of(session_ids)
    return Follower(call, patience, silence_seconds=SAMPLES_SILENCE_SECONDS).run()


def all_events(patience: Patience) -> Flow[Any]:
    """Tell every status of every session, for ever."""
    return Follower(calls.event_stream(), patience).run()


def _has_ended(session_id: str, patience: Patience) -> Flow[bool]:
    details = yield from whole(calls.get(session_id), patience)
    return details.status == "terminated"
