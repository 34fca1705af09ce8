"""A certificate that a test makes for itself."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import NameOID

PEM = serialization.Encoding.PEM
DAY = dt.timedelta(days=1)

Key = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey


def self_signed(serial: int = 1, also: Sequence[str] = ()) -> bytes:
    """A key and its certificate for localhost and other names, good for a day, as PEM."""
    key = ec.generate_private_key(ec.SECP256R1())
    return key_pem(key) + signed("localhost", key, "localhost", key, serial, also)


def key_pem(key: Key) -> bytes:
    """A key as PEM."""
    return key.private_bytes(PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())


def signed(
    subject: str,
    key: Key,
    issuer: str,
    issuers_key: Key,
    serial: int = 1,
    also: Sequence[str] = (),
) -> bytes:
    """A certificate, good for a day, as PEM; an authority's unless it is for localhost."""
    now = dt.datetime.now(dt.UTC)
    made = x509.CertificateBuilder(
        _named(issuer), _named(subject), key.public_key(), serial, now - DAY, now + DAY
    )
    if subject == "localhost":
        names = x509.SubjectAlternativeName([x509.DNSName(name) for name in (subject, *also)])
        made = made.add_extension(names, False)
    else:
        made = made.add_extension(x509.BasicConstraints(ca=True, path_length=None), True)
    return made.sign(issuers_key, hashes.SHA256()).public_bytes(PEM)


def _named(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])


def write_certificate(folder: Path) -> Path:
    """A file with a key and its certificate."""
    path = folder / "server.pem"
    path.write_bytes(self_signed())
    return path


def write_chain(folder: Path) -> tuple[Path, Path, Path]:
    """A key, its certificate with the one in between, and the authority that clients trust."""
    root, between, own = (ec.generate_private_key(ec.SECP256R1()) for _ in range(3))
    key, chain, trusted = (folder / name for name in ("key.pem", "chain.pem", "root.pem"))
    key.write_bytes(key_pem(own))
    chain.write_bytes(
        signed("localhost", own, "between", between) + signed("between", between, "root", root)
    )
    trusted.write_bytes(signed("root", root, "root", root))
    return key, chain, trusted
