"""What the Docker Engine answers when it will not: its status and its own words."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from plane_tx.core.errors import EngineUnavailable

#: No more of a message is shown. What a request asked for may stand in it, or what a registry says.
_LONGEST_MESSAGE = 2000


class DockerError(Exception):
    """Docker answered with an error; `message` is its own, on one line, and fit to be shown."""

    def __init__(self, message: str, status: int = 500) -> None:
        self.message = _on_one_line(message[:_LONGEST_MESSAGE])
        self.status = status
        super().__init__(self.message)


class NotModified(DockerError):
    """304: the container is already as it was asked to be."""


class NoSuchObject(DockerError):
    """404: no such container, image or network; the message tells which."""


class Conflict(DockerError):
    """409: a name that is taken, or a container in no state for this."""


_BY_STATUS: Mapping[int, type[DockerError]] = {
    304: NotModified,
    404: NoSuchObject,
    409: Conflict,
}


def _on_one_line(text: str) -> str:
    return " ".join("".join(each if each.isprintable() else " " for each in text).split())


def error_for(status: int, message: str) -> DockerError:
    """The error that says `status`."""
    return _BY_STATUS.get(status, DockerError)(message, status)


class NotDocker(Exception):
    """What came over the socket is not what a Docker Engine sends."""


@contextmanager
def telling(what: str) -> Iterator[None]:
    """Let an answer that we have no use for be as good as none: raise `EngineUnavailable` of it."""
    try:
        yield
    except DockerError as error:
        raise EngineUnavailable(f"Docker could not {what}: {error.message}") from None
