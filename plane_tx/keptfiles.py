"""Files that are kept for a while, of which the oldest go when there are too many."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

import attrs

#: How many files are kept, and of how many bytes in all.
MOST_FILES = 200
MOST_BYTES = 64 * 1024 * 1024

#: What a file is called while it is being written; one that was never finished counts as any other.
_UNFINISHED = ".part"


@attrs.frozen
class KeptFiles:
    """One directory (0700) of files (0600), each there as a whole or not at all.

    Every call waits for the disk, and raises `OSError` where that fails. A name is a file's own,
    without any `/`.
    """

    directory: Path
    most_files: int = MOST_FILES
    most_bytes: int = MOST_BYTES

    def put(self, name: str, content: bytes) -> None:
        """Keep a file, in the place of an earlier one of this name."""
        self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        unfinished = self.directory / f"{name}{_UNFINISHED}"
        try:
            file = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
            with os.fdopen(file, "wb") as writing:
                writing.write(content)
            unfinished.replace(self.directory / name)
        except OSError:
            with suppress(OSError):
                unfinished.unlink()
            raise
        self._make_room()

    def get(self, name: str) -> bytes | None:
        """The content of a file; None when it is not there, or no more."""
        try:
            return (self.directory / name).read_bytes()
        except FileNotFoundError:
            return None

    def _make_room(self) -> None:
        with os.scandir(self.directory) as found:
            files = [(entry.stat(), entry.path) for entry in found]
        files.sort(key=lambda file: file[0].st_mtime_ns, reverse=True)
        size = 0
        for place, (status, path) in enumerate(files):
            size += status.st_size
            if place >= self.most_files or size > self.most_bytes:
                Path(path).unlink(missing_ok=True)
