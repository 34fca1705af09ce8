"""What a terminal shows of what the server tells: plain functions, no markup, no control codes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime

from plane_tx.client import Details, StatusUpdate, Why


def plain(text: object) -> str:
    """`text` with what a terminal would take for an order made visible."""
    return "".join(
        each if each.isprintable() or each == "\t" else ascii(each)[1:-1] for each in str(text)
    )


def moment(milliseconds: int | None) -> str:
    """A moment in UTC, to the second; "" for none."""
    if milliseconds is None:
        return ""
    try:
        return datetime.fromtimestamp(milliseconds / 1000, UTC).strftime("%Y-%m-%d %H:%M:%SZ")
    except (OverflowError, ValueError, OSError):
        return f"{milliseconds} ms"


def span(seconds: float) -> str:
    """A span of time in its two largest units."""
    whole = int(max(seconds, 0))
    if whole < 60:
        return f"{whole}s"
    if whole < 3600:
        return f"{whole // 60}m{whole % 60:02}s"
    if whole < 86_400:
        return f"{whole // 3600}h{whole % 3600 // 60:02}m"
    return f"{whole // 86_400}d{whole % 86_400 // 3600:02}h"


def size(count: float | None) -> str:
    """Bytes in their unit; "" for none."""
    if count is None:
        return ""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if abs(count) < 1024:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1024
    return f"{count:.1f} TiB"


def next_end(details: Details, now: float) -> str:
    """What ends a session soonest, and when."""
    if not details.deadlines:
        return ""
    cause, at = min(details.deadlines.items(), key=lambda each: each[1])
    return f"{plain(cause)} in {span(at / 1000 - now)}"


#: The statuses of sessions that have not ended.
LIVING = (
    "scheduled", "loading", "starting", "waiting", "ready", "terminating", "hard-terminating"
)  # fmt: skip

#: The most important first: a narrow terminal has room for those alone.
LIST_COLUMNS = ("ID", "STATUS", "RUNS", "ENDS", "CONN", "AGE", "KEY", "USER")


def list_row(details: Details, now: float) -> tuple[str, ...]:
    """A session as a line of a table."""
    return (
        plain(details.id),
        plain(details.status),
        plain(details.app or details.image or ""),
        next_end(details, now),
        str(details.connection_count),
        span(now - details.created_at / 1000),
        plain(details.key.name),
        plain(details.user or ""),
    )


def about(details: Details, now: float) -> Iterable[tuple[str, str]]:
    """All about a session, line by line: a name and a value."""
    yield "id", details.id
    yield "status", details.status + (f": {details.detail}" if details.detail else "")
    if details.key.name:
        yield "key", "/".join(filter(None, (details.key.namespace, details.key.name)))
    for name in ("user", "app", "image"):
        if value := getattr(details, name):
            yield name, value
    for name, value in details.labels.items():
        yield "label", f"{name}={value}"
    yield "created", moment(details.created_at)
    yield "connections", str(details.connection_count)
    if details.idle_since is not None:
        yield "idle since", moment(details.idle_since)
    for cause, at in sorted(details.deadlines.items(), key=lambda each: each[1]):
        yield "ends", f"{cause} in {span(at / 1000 - now)}, at {moment(at)}"
    if details.exit_code is not None:
        yield "exit code", f"{details.exit_code}{' (out of memory)' if details.oom else ''}"
    if details.failure is not None:
        yield "failure", f"{details.failure.kind}: {details.failure.message}"
        for line in details.failure.log_tail:
            yield "log", line


def reasons(why: Why) -> Iterable[str]:
    """Why a session is as it is, line by line."""
    yield why.summary
    for hold in why.holds:
        yield f"  held by: {_hold(hold)}"
    for step in why.next:
        yield f"  next: {step.message}"
    for step in why.causes:
        yield f"  {step.message}"


def _hold(hold: Mapping[str, object]) -> str:
    said = [f"{name} {hold[name]}" for name in ("peer", "path", "user", "reason") if hold.get(name)]
    return ", ".join([str(hold.get("kind", "")), *said])


def progress(update: StatusUpdate) -> str:
    """What a session that boots is doing, in a line."""
    if update.pull is None:
        return f"{update.status}: {update.detail}" if update.detail else update.status
    total = update.pull.total_bytes
    of_all = f" of {size(total)}" if total else ""
    return f"pulling {update.pull.image}: {size(update.pull.bytes)}{of_all}"
