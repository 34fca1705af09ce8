"""API keys: what a line of configuration means, and what a secret opens."""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from plane_tx.core.apikeys import ApiKeys, Scope, keys_in, needed_scope, parse_key
from plane_tx.core.errors import ConfigError

SECRET = "correct-horse-battery"
DIGEST = hashlib.sha256(SECRET.encode()).hexdigest()


def keys(*lines: str) -> ApiKeys:
    return ApiKeys((f"line {number}", parse_key(line)) for number, line in enumerate(lines, 1))


@pytest.mark.parametrize(
    ("scopes", "meant"),
    [
        ("connect", {Scope.CONNECT}),
        ("read", {Scope.READ}),
        ("connect,read", {Scope.CONNECT, Scope.READ}),
        ("admin", set(Scope)),
        ("read,admin", set(Scope)),
    ],
)
def test_a_key_has_a_name_and_scopes(scopes: str, meant: set[Scope]) -> None:
    key = parse_key(f"ci.bot@box:{scopes}:{SECRET}")

    assert (key.name, key.scopes) == ("ci.bot@box", meant)


@pytest.mark.parametrize("secret", [SECRET, f"sha256:{DIGEST}", f"sha256:{DIGEST.upper()}"])
def test_a_secret_opens_whether_it_or_its_hash_is_configured(secret: str) -> None:
    found = keys(f"other:admin:{'x' * 16}", f"ci:admin:{secret}").find(SECRET.encode())

    assert found is not None
    assert found.name == "ci"


def test_a_secret_may_have_colons() -> None:
    assert keys("ci:admin:a:b:c:d:e:f:g:h:i").find(b"a:b:c:d:e:f:g:h:i") is not None


def test_a_hash_stands_for_any_bytes() -> None:
    secret = "pässwört".encode()

    assert keys(f"ci:admin:sha256:{hashlib.sha256(secret).hexdigest()}").find(secret) is not None


@pytest.mark.parametrize(
    "secret", ["", SECRET[:-1], SECRET + "x", SECRET.upper(), DIGEST, f"sha256:{DIGEST}", "\xff"]
)
def test_nothing_but_the_secret_opens(secret: str) -> None:
    assert keys(f"ci:admin:{SECRET}", f"c2:admin:sha256:{'0' * 64}").find(secret.encode()) is None


def test_without_keys_nothing_opens() -> None:
    assert not ApiKeys()
    assert ApiKeys().find(b"") is None


@pytest.mark.parametrize(
    "text",
    [
        "", ":", "::", "ci", "ci:admin", f":admin:{SECRET}", f"ci::{SECRET}", "ci:admin:",
        "ci:admin:15-characters--", f"ci:root:{SECRET}", f"ci:admin,:{SECRET}",
        f"ci:read, admin:{SECRET}", f"ci:ADMIN:{SECRET}", f"c i:admin:{SECRET}",
        f"{'x' * 65}:admin:{SECRET}", f"ci\n:admin:{SECRET}", f"ci:admin:{SECRET} ",
        f"ci:admin:{SECRET}\n", f"ci:admin:{SECRET}é", "ci:admin:sha256:", "ci:admin:sha256:00",
        f"ci:admin:sha256:{DIGEST}0", f"ci:admin:SHA256:{SECRET}", f"ci:admin:sha256: {DIGEST[1:]}",
    ],
)  # fmt: skip
def test_what_is_no_key_is_refused_without_showing_it(text: str) -> None:
    with pytest.raises(ValueError, match="expected") as caught:
        parse_key(text)

    assert SECRET not in str(caught.value)


def complaint(text: str) -> str:
    try:
        parse_key(text)
    except ValueError as error:
        return str(error)
    return ""


@given(st.text())
def test_any_text_is_a_key_or_a_complaint_in_one_line(text: str) -> None:
    assert complaint(text).isprintable()


def test_no_key_shows_its_secret_or_the_hash_of_it() -> None:
    shown = repr(parse_key(f"ci:admin:{SECRET}"))

    assert SECRET not in shown
    assert "digest" not in shown


def test_two_keys_of_one_name_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"line 2: .* the name of another one, at line 1"):
        keys(f"ci:read:{SECRET}", "ci:admin:another-long-secret")


def test_two_keys_with_one_secret_are_refused_however_it_is_given() -> None:
    with pytest.raises(ConfigError, match=r"line 2: .* the secret of another one, at line 1"):
        keys(f"ci:read:{SECRET}", f"root:admin:sha256:{DIGEST}")


def test_a_file_has_a_key_on_each_line_that_is_not_blank_or_a_comment() -> None:
    text = f"\n# ours\n  ci:read:{SECRET}  \r\n\n  # more\nroot:admin:sha256:{'0' * 64}"

    found = keys_in(text, "keys")

    assert [(place, key.name, key.hashed) for place, key in found] == [
        ("keys line 3", "ci", False),
        ("keys line 6", "root", True),
    ]


def test_a_line_that_is_no_key_is_named_by_its_number() -> None:
    with pytest.raises(ConfigError, match=r"^keys line 2: expected name:scope") as caught:
        keys_in(f"\n{SECRET}", "keys")

    assert SECRET not in str(caught.value)


def test_a_file_without_keys_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"^keys: no key in it"):
        keys_in("# none\n", "keys")


@pytest.mark.parametrize(
    ("method", "path", "scope"),
    [
        (b"POST", "/ctrl/connect", Scope.CONNECT),
        (b"GET", "/ctrl/connect", Scope.READ),
        (b"PUT", "/ctrl/connect", Scope.ADMIN),
        (b"POST", "/ctrl/connect/", Scope.ADMIN),
        (b"GET", "/metrics", Scope.READ),
        (b"HEAD", "/ctrl/status", Scope.READ),
        (b"OPTIONS", "/ctrl/status", Scope.ADMIN),
        (b"POST", "/ctrl/b/x/soft-terminate", Scope.ADMIN),
        (b"POST", "/ctrl/b/x/link", Scope.CONNECT),
        (b"POST", "/ctrl/b/x/link/", Scope.ADMIN),
        (b"POST", "/ctrl/b/x/y/link", Scope.ADMIN),
        (b"POST", "/ctrl/b//link", Scope.ADMIN),
        (b"DELETE", "/ctrl/drain", Scope.ADMIN),
    ],
)
def test_what_a_call_needs(method: bytes, path: str, scope: Scope) -> None:
    assert needed_scope(method, path) is scope
