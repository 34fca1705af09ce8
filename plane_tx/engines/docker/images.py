"""Images: found on this box, or pulled once for everyone who waits for them."""

from __future__ import annotations

import re
from contextlib import suppress
from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.python.failure import Failure

from plane_tx.core.errors import ImageUnavailable
from plane_tx.core.images import Image
from plane_tx.core.model import Credentials, Executable, PullPolicy
from plane_tx.core.pulls import Pulling
from plane_tx.engines.docker.client import DockerClient
from plane_tx.engines.docker.errors import DockerError
from plane_tx.engines.interface import Report
from plane_tx.flights import Flight

#: How long a pull may stay without a word of progress.
SILENCE_SECONDS = 60.0

#: How far apart its news are told: Docker has them ten times a second for each layer.
NEWS_SECONDS = 0.5


class Images:
    """Sees to it that an image is there; pulls of the same image with the same login are one.

    A pull that takes longer than `pull_seconds` is given up; 0 means never.
    """

    def __init__(self, clock: IReactorTime, client: DockerClient, pull_seconds: float) -> None:
        self._clock = clock
        self._client = client
        self._pull_seconds = pull_seconds
        self._pulls: dict[tuple[Image, Credentials | None], _Pull] = {}

    async def ensure(self, executable: Executable, report: Report) -> None:
        """Return when the image may be used, as the pull policy has it.

        Fails with `ImageUnavailable` or `EngineUnavailable`; one who is cancelled leaves a
        pull to the others, and the last one ends it.
        """
        image = Image.parse(executable.image or "")
        policy = executable.pull_policy
        try:
            if policy is PullPolicy.NEVER:
                return
            if policy is PullPolicy.IF_NOT_PRESENT and await self._client.has_image(str(image)):
                return
            await self._pull(image, executable.credentials, report)
        except DockerError as error:
            raise unavailable(str(image), error.message) from None

    async def _pull(self, image: Image, credentials: Credentials | None, report: Report) -> None:
        key = (image, credentials)
        pull = self._pulls.get(key)
        if pull is None:
            pull = _Pull(self._clock, self._client, image, credentials, self._pull_seconds)
            self._pulls[key] = pull
        try:
            await pull.join(report)
        finally:
            if pull.over and self._pulls.get(key) is pull:
                del self._pulls[key]


# What to do about an image that cannot be had, by what Docker or its registry says of it.
_CURES = (
    (
        re.compile("denied|unauthorized|no basic auth", re.IGNORECASE),
        "look at its name, or give credentials that its registry knows",
    ),
    (
        re.compile("no such image", re.IGNORECASE),
        "pull it on this box, or have it pulled (pull_policy)",
    ),
    (re.compile("not found|manifest unknown", re.IGNORECASE), "look at its name and tag"),
    (
        re.compile("no such host|connection refused|i/o timeout|no route", re.IGNORECASE),
        "look at its name, and whether Docker can reach its registry",
    ),
)


def unavailable(image: str, message: str) -> ImageUnavailable:
    """The error for an image that cannot be had, in Docker's words, and with what to do."""
    cure = next((f"; {cure}" for words, cure in _CURES if words.search(message)), "")
    return ImageUnavailable(f"image {image} is not to be had: {message}{cure}")


class _Pull:
    """One pull, and those who hear of its progress.

    It is given up when its registry is silent, or `most_seconds` are over.
    """

    def __init__(
        self,
        clock: IReactorTime,
        client: DockerClient,
        image: Image,
        credentials: Credentials | None,
        most_seconds: float,
    ) -> None:
        self._clock = clock
        self._image = str(image)
        self._layers: dict[str, tuple[int, int]] = {}
        self._told = Pulling(self._image)
        self._reports: list[Report] = []
        self._news: IDelayedCall | None = None
        self._given_up = ""
        self._work = Deferred.fromCoroutine(
            client.pull(image.name, image.digest or image.tag, credentials, self._line)
        )
        self._silence = clock.callLater(
            SILENCE_SECONDS, self._give_up, f"nothing came of it for {SILENCE_SECONDS:g} s"
        )
        self._limit = most_seconds and clock.callLater(
            most_seconds, self._give_up, _too_long(most_seconds)
        )
        self._work.addBoth(self._pulled)
        self._flight = Flight(self._work, deserted=self._work.cancel)

    @property
    def over(self) -> bool:
        """Whether it has come to its end, or nobody waits for it any more."""
        return self._flight.landed or not self._reports

    async def join(self, report: Report) -> None:
        """Wait for its end, hearing of its progress."""
        self._reports.append(report)
        waiter = self._flight.wait()
        try:
            self._report(report, waiter)
            await waiter
        except CancelledError:
            if self._given_up:
                raise DockerError(self._given_up) from None
            raise
        finally:
            self._reports.remove(report)

    def _give_up(self, why: str) -> None:
        self._given_up = why
        self._work.cancel()

    def _pulled(self, result: Failure | None) -> Failure | None:
        for timer in (self._silence, self._limit, self._news):
            if timer and timer.active():
                timer.cancel()
        self._tell()
        return result

    def _report(self, report: Report, waiter: Deferred[None]) -> None:
        try:
            report(self._told)
        except CancelledError:
            waiter.cancel()

    def _line(self, line: dict[str, Any]) -> None:
        """Add up what Docker tells of each layer; only downloads count, not unpacking."""
        self._silence.reset(SILENCE_SECONDS)
        layer, status = line.get("id", ""), line.get("status", "")
        detail = line.get("progressDetail") or {}
        if status == "Downloading" and "current" in detail:
            self._layers[layer] = (detail["current"], detail.get("total", 0))
        elif status == "Download complete" and layer in self._layers:
            _, total = self._layers[layer]
            self._layers[layer] = (total, total)
        if self._news is None:
            self._tell_news()

    def _tell_news(self) -> None:
        """Tell what is new; what comes within `NEWS_SECONDS` of that is told after them."""
        self._news = self._clock.callLater(NEWS_SECONDS, self._tell_news) if self._tell() else None

    def _tell(self) -> bool:
        """Tell how far it is, and return whether that was news."""
        current = sum(current for current, _ in self._layers.values())
        total = sum(total for _, total in self._layers.values())
        told = Pulling(self._image, current, total)
        if told == self._told:
            return False
        self._told = told
        for report in tuple(self._reports):
            # Who gives up on hearing this does not stop the pull for the others.
            with suppress(CancelledError):
                report(told)
        return True


def _too_long(seconds: float) -> str:
    return (
        f"its pull took longer than {seconds:g} s: pull it by hand, or give it more time in"
        " [engine] pull_timeout_seconds"
    )
