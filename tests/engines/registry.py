"""A registry of images on loopback (Debian's docker-registry), which lets in one login only."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import http.client
import io
import json
import re
import shutil
import subprocess
import tarfile
import time
from collections.abc import Iterator
from pathlib import Path

import attrs

from plane_tx.core.model import Credentials

#: Everything in this password is what some encoding would spoil.
LOGIN = Credentials("reader", "opens:sesame?>")

#: The same as `htpasswd -nbB` writes it.
_HTPASSWD = "reader:$2y$04$0UTNaVuU7Qa8c.vopEwGTOTB5FUnD1TY2V9ClZi3j/2LJGMN9Ron6\n"

_CONFIG = """
version: 0.1
log: {{accesslog: {{disabled: false}}}}
storage: {{filesystem: {{rootdirectory: {directory}/images}}}}
http: {{addr: "127.0.0.1:0"}}
auth: {{htpasswd: {{realm: test, path: {directory}/htpasswd}}}}
"""

_LAYER = "application/vnd.docker.image.rootfs.diff.tar.gzip"
_CONTAINER = "application/vnd.docker.container.image.v1+json"
_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
_START_SECONDS = 20.0


@attrs.frozen
class Registry:
    """One that runs; `host` is what the names of its images begin with."""

    host: str
    _log: Path

    def push(self, name: str, tag: str, files: dict[str, bytes]) -> str:
        """Put an image there that holds `files`, all of them programs; the digest it has."""
        layer = _tar(files)
        config = {
            "architecture": "amd64",
            "os": "linux",
            "config": {"Env": ["PATH=/bin"], "Cmd": ["sh"]},
            "rootfs": {"type": "layers", "diff_ids": [_digest(layer)]},
        }
        manifest = {
            "schemaVersion": 2,
            "mediaType": _MANIFEST,
            "config": self._blob(name, _CONTAINER, json.dumps(config).encode()),
            "layers": [self._blob(name, _LAYER, layer)],
        }
        body = json.dumps(manifest).encode()
        self._ask("PUT", f"/v2/{name}/manifests/{tag}", body, _MANIFEST)
        return _digest(body)

    def manifests_asked(self, name: str) -> int:
        """How often somebody has looked up a tag of this image."""
        asked = re.compile(rf'"(?:GET|HEAD) /v2/{name}/manifests/[^ ]* HTTP/1.1" 200 ')
        return len(asked.findall(self._log.read_text()))

    def _blob(self, name: str, kind: str, content: bytes) -> dict[str, object]:
        digest = _digest(content)
        where = self._ask("POST", f"/v2/{name}/blobs/uploads/", b"", "")
        path = where.removeprefix(f"http://{self.host}")
        self._ask("PUT", f"{path}&digest={digest}", content, "application/octet-stream")
        return {"mediaType": kind, "size": len(content), "digest": digest}

    def _ask(self, method: str, path: str, body: bytes, kind: str) -> str:
        login = base64.b64encode(f"{LOGIN.username}:{LOGIN.password}".encode()).decode()
        headers = {"Authorization": f"Basic {login}", "Content-Type": kind}
        with contextlib.closing(http.client.HTTPConnection(self.host, timeout=30)) as asking:
            asking.request(method, path, body, headers)
            answer = asking.getresponse()
            said = answer.read()
        assert answer.status in (201, 202), (answer.status, said)
        return answer.headers.get("Location", "")


def _tar(files: dict[str, bytes]) -> bytes:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as tar:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size, member.mode = len(content), 0o755
            tar.addfile(member, io.BytesIO(content))
    return packed.getvalue()


def _digest(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


def missing() -> str | None:
    """Why there can be no registry here, if so."""
    if shutil.which("docker-registry") is None:
        return "there is no docker-registry (`sudo make test` provides it on Debian)"
    return None


@contextlib.contextmanager
def running(directory: Path) -> Iterator[Registry]:
    """A registry whose images are in `directory`, until the end of this context."""
    (directory / "htpasswd").write_text(_HTPASSWD)
    (directory / "config.yml").write_text(_CONFIG.format(directory=directory))
    log = directory / "log"
    with log.open("wb") as output:
        serving = subprocess.Popen(
            ["docker-registry", "serve", str(directory / "config.yml")],
            stdout=output,
            stderr=output,
        )
    try:
        yield Registry(_host(serving, log), log)
    finally:
        serving.terminate()
        serving.wait()


def _host(serving: subprocess.Popen[bytes], log: Path) -> str:
    until = time.monotonic() + _START_SECONDS
    while time.monotonic() < until and serving.poll() is None:
        found = re.search(r"listening on (127\.0\.0\.1:\d+)", log.read_text())
        if found:
            return found[1]
        time.sleep(0.05)
    raise AssertionError(f"the registry did not start: {log.read_text()}")
