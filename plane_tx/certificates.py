"""The endpoints to listen at, and their certificates, which are loaded anew while they listen.

Whoever is connected stays so, by the certificate he has seen; the next one sees the new one. The
files are read by Twisted, as it reads any `ssl:` description, so that all it takes there works.
"""

from __future__ import annotations

import os
import re
import signal
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any
from typing import Protocol as Shape

import attrs
from twisted.application.service import Service
from twisted.internet.defer import Deferred, ensureDeferred
from twisted.internet.endpoints import SSL4ServerEndpoint, serverFromString
from twisted.internet.interfaces import IOpenSSLContextFactory, IStreamServerEndpoint
from twisted.internet.ssl import Certificate, CertificateOptions
from twisted.logger import Logger
from zope.interface import implementer

from plane_tx.activation import PassedSockets
from plane_tx.core.endpoints import kind_of, tls_files, with_backlog, with_files_below
from plane_tx.core.errors import ConfigError

_STANDARD_INPUT = 0

_CERTIFICATE = re.compile(
    rb"-----BEGIN CERTIFICATE-----\r?\n.+?-----END CERTIFICATE-----", re.DOTALL
)
_ENCRYPTED = re.compile(rb"-----BEGIN ENCRYPTED|\nProc-Type: 4,ENCRYPTED")


@attrs.frozen
class _Meant:
    """What Twisted makes of an `ssl:` description."""

    port: int
    options: CertificateOptions
    backlog: int
    interface: str


class _Listened:
    """Stands where Twisted expects a reactor, and keeps what it is asked to listen with."""

    meant: _Meant

    def listenSSL(
        self,
        port: int,
        factory: object,
        contextFactory: CertificateOptions,
        backlog: int,
        interface: str,
    ) -> None:
        """As `IReactorSSL` has it, but nothing is listened at."""
        self.meant = _Meant(port, contextFactory, backlog, interface)


def _meant_by(description: str) -> _Meant:
    listened = _Listened()
    serverFromString(listened, description).listen(None)
    return listened.meant


@attrs.frozen
class _Loaded:
    meant: _Meant
    context: Any
    good_until: str


def _load(description: str) -> _Loaded:
    """Read the files that an `ssl:` description names; this blocks.

    Raises `ConfigError`, one line that says why they are of no use.
    """
    try:
        meant, certificate = _read(description)
        chain = _CERTIFICATE.findall(certificate)[1:]
        options = _options(meant.options, chain)
        context = options.getContext()
    except Exception as error:  # noqa: BLE001  # each library raises what it likes
        raise ConfigError(_reason(error)) from None
    return _Loaded(meant, context, _last_day(options))


def _read(description: str) -> tuple[_Meant, bytes]:
    # Twisted reads the files once more. Whoever renews them may do so in between, and a new
    # certificate behind an old chain is one that nobody trusts.
    for _ in range(2):
        texts = _texts(description)
        meant = _meant_by(description)
        if _texts(description) == texts:
            return meant, texts[1]
    raise ValueError("its files change while they are read: try again when they are complete")


def _texts(description: str) -> list[bytes]:
    found = []
    for name in tls_files(description):
        path = Path(name)
        mode = path.stat().st_mode
        if stat.S_ISDIR(mode):
            raise ValueError(f"{name}: a directory, where one file was expected")
        if not stat.S_ISREG(mode):
            # To read a pipe is to wait for whoever writes it.
            raise ValueError(f"{name}: not a regular file")
        if _ENCRYPTED.search(text := path.read_bytes()):
            # OpenSSL would ask for its password on the terminal, and wait.
            raise ValueError(f"{name}: the key is encrypted, and there is nobody to ask")
        found.append(text)
    return found


def _options(meant: CertificateOptions, chain: list[bytes]) -> CertificateOptions:
    of_any_version = CertificateOptions().method
    return CertificateOptions(
        privateKey=meant.privateKey,
        certificate=meant.certificate,
        # Of the certificate's file Twisted takes the first one only; ACME clients put the whole
        # chain there.
        extraCertChain=meant.extraCertChain or [Certificate.loadPEM(pem).original for pem in chain],
        dhParameters=meant.dhParameters,
        # Where no protocol is named Twisted refuses every client that offers some, as browsers do
        # (it answers with an empty name, which OpenSSL 4 takes for an error).
        acceptableProtocols=[b"http/1.1"],
        # Any version from 1.2 on, unless `sslmethod` asks for a certain one.
        method=None if meant.method == of_any_version else meant.method,
    )


def _reason(error: Exception) -> str:
    if isinstance(error, OSError):
        return f"{error.filename}: {error.strerror}"
    if error.args and isinstance(error.args[0], list):  # pyOpenSSL's: library, function, reason
        reasons = ", ".join(reason for *_, reason in error.args[0])
        return f"no key or certificate where one was expected: {reasons}"
    return str(error).removesuffix(".")


def _last_day(options: CertificateOptions) -> str:
    ends = options.certificate.get_notAfter()  # type: ignore[union-attr]  # `ssl:` always has one
    text = (ends or b"").decode("ascii")  # YYYYMMDDhhmmssZ
    return f"{text[:4]}-{text[4:6]}-{text[6:8]}"


@implementer(IOpenSSLContextFactory, IStreamServerEndpoint)
class TLSEndpoint:
    """An `ssl:` endpoint whose certificate can be replaced; raises `ConfigError` as it is made."""

    def __init__(self, reactor: Any, description: str, folder: Path) -> None:
        self.description = description
        self._reactor = reactor
        self._resolved = with_backlog(with_files_below(description, str(folder)))
        self._loaded = _load(self._resolved)

    def getContext(self) -> Any:
        """What the next connection is greeted with; Twisted asks for each one."""
        return self._loaded.context

    def listen(self, protocolFactory: Any) -> Deferred[Any]:
        """Listen as the description says."""
        meant = self._loaded.meant
        endpoint = SSL4ServerEndpoint(
            self._reactor, meant.port, self, meant.backlog, meant.interface
        )
        listening: Deferred[Any] = endpoint.listen(protocolFactory)
        return listening

    async def reload(self, thread: Work) -> str:
        """Replace the certificate; until when it is good, as ASN.1 writes a time.

        Raises `ConfigError` when the files are of no use; the old one stays.
        """
        self._loaded = await thread.run(lambda: _load(self._resolved))
        return self._loaded.good_until


class Work(Shape):
    """Where files are read while the server goes on."""

    def start(self) -> None:
        """Be ready for work."""

    def run(self, work: Callable[[], _Loaded]) -> Deferred[_Loaded]:
        """Fires with what `work` returns."""

    def stop(self) -> None:
        """There is no more work, and none under way."""


class Endpoints(Service):
    """The endpoints of a server; at SIGHUP those with TLS load their certificates anew.

    Files that a description names are found beside `folder`, and read in `thread` at a SIGHUP.
    """

    _log = Logger()

    def __init__(self, reactor: Any, folder: Path, thread: Work) -> None:
        self._reactor = reactor
        self._folder = folder
        self._thread = thread
        self._passed = PassedSockets(reactor)
        self._with_tls: list[TLSEndpoint] = []
        self._reloading: Deferred[None] | None = None
        self._once_more = False

    def endpoint(self, description: str) -> IStreamServerEndpoint:
        """What a Twisted endpoint description means.

        Raises `ConfigError` for one that means nothing, or whose certificate cannot be loaded.
        """
        kind = kind_of(description).lower()
        if kind == "systemd":
            return self._passed.endpoint(description)
        if kind != "ssl":
            return self._other(description)
        endpoint = TLSEndpoint(self._reactor, description, self._folder)
        self._with_tls.append(endpoint)
        return endpoint

    def _other(self, description: str) -> IStreamServerEndpoint:
        try:
            endpoint: IStreamServerEndpoint = serverFromString(
                self._reactor, with_backlog(description)
            )
        except Exception:  # noqa: BLE001  # each kind raises what it likes, in terms of Python
            raise ConfigError(
                "expected tcp:, tcp6:, ssl:, tls: or unix:, or what another kind of Twisted's takes"
            ) from None
        return endpoint

    def privilegedStartService(self) -> None:
        """Heed SIGHUP, unless it means that the terminal was closed from which we are run."""
        super().privilegedStartService()  # type: ignore[no-untyped-call]  # Twisted's is untyped
        if not os.isatty(_STANDARD_INPUT):
            signal.signal(signal.SIGHUP, self._hung_up)

    def startService(self) -> None:
        """Heed it in any case if there are certificates."""
        super().startService()  # type: ignore[no-untyped-call]  # as above
        self._thread.start()
        if self._with_tls:
            signal.signal(signal.SIGHUP, self._hung_up)

    def stopService(self) -> None:
        """Give up what is being loaded; from now on a SIGHUP means nothing, and kills nobody."""
        super().stopService()  # type: ignore[no-untyped-call]  # as above
        if signal.getsignal(signal.SIGHUP) == self._hung_up:
            signal.signal(signal.SIGHUP, signal.SIG_IGN)
        if self._reloading is None:
            self._thread.stop()
        else:
            # Its disk may hang, and the thread with it.
            self._reloading.cancel()

    def _hung_up(self, number: int, frame: object) -> None:
        self._reactor.callFromThread(self._heed)

    def _heed(self) -> None:
        if self.running:
            self.reload()

    def reload(self) -> None:
        """Load every certificate anew, and tell the log; where a load goes on, after that one."""
        self._once_more = True
        if self._reloading is None:
            self._reloading = ensureDeferred(self._reload_all())
            self._reloading.addBoth(self._reloaded)

    def _reloaded(self, _result: object) -> None:
        self._reloading = None

    async def _reload_all(self) -> None:
        while self._once_more:
            self._once_more = False
            if not self._with_tls:
                self._log.info("SIGHUP: no endpoint has a certificate that could be loaded anew")
            for endpoint in self._with_tls:
                await self._reload(endpoint)

    async def _reload(self, endpoint: TLSEndpoint) -> None:
        shown = repr(endpoint.description)
        try:
            until = await endpoint.reload(self._thread)
        except ConfigError as error:
            self._log.error("SIGHUP: {of} keeps its certificate: {why}", of=shown, why=str(error))
        else:
            self._log.info(
                "SIGHUP: {of} has a certificate that is good until {until}", of=shown, until=until
            )
