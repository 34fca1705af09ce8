"""Hosts and paths to sessions, and the URLs that lead back."""

from __future__ import annotations

from urllib.parse import urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from plane_tx.core import errors
from plane_tx.core.model import Executable, Key, Routing, Scheduled, Spec, Token
from plane_tx.core.registry import Registry
from plane_tx.core.routes import (
    MOST_REMEMBERED,
    MOST_SHOWN,
    Way,
    find,
    has_hosts_below,
    hide_tokens,
    host_below,
    secure_url,
    session_url,
    visit_of,
)
from plane_tx.core.use import Visit
from tests.sessions import make_session

CLUSTER = "example.com"
DYNAMIC = "A" * 43
STATIC = "s." + "B" * 43
HOST = "c" * 52
HOME = "D" * 43
UNKNOWN = "E" * 43


@pytest.fixture
def registry() -> Registry:
    registry = Registry()
    specs = {
        "plain": (Spec(Executable()), DYNAMIC),
        "static": (Spec(Executable(), use_static_token=True), STATIC),
        "hosted": (Spec(Executable(), routing=Routing.HOST), HOST),
        "homed": (Spec(Executable(), subdomain="a.b"), HOME),
    }
    for name, (spec, token) in specs.items():
        registry.add(make_session(name, Key(name), "", spec, 0.0, 1), Scheduled(), 0.0)
        registry.grants.grant(Token(token, name, "", static=token.startswith("s.")), 0.0)
    registry.grants.grant(Token(UNKNOWN, "forgotten", ""), 0.0)
    return registry


@pytest.mark.parametrize(
    ("host", "cluster", "below"),
    [
        ("foobar.com", "foobar.com", ""),
        ("abc.foobar.com", "foobar.com", "abc"),
        ("a.b.foobar.com", "foobar.com", "a.b"),
        ("foobar.com:8080", "foobar.com:8080", ""),
        ("abc.foobar.com:8080", "foobar.com:8080", "abc"),
        ("foobar.com:443", "foobar.com", ""),
        ("abc.foobar.com:443", "foobar.com", "abc"),
        ("foobar.com", "foobar.com:443", ""),
        ("FooBar.COM", "foobar.com", ""),
        ("Abc.FooBar.com:8080", "fooBAR.com:8080", "abc"),
        ("foobar.com.", "foobar.com", ""),
        ("abc.foobar.com.:8080", "foobar.com:8080", "abc"),
        ("[::1]:9090", "[::1]:9090", ""),
        ("[::1]", "[::1]", ""),
        ("[::1]:443", "[::1]", ""),
        ("[0:0::1]:9090", "[::1]:9090", ""),
        ("[::1]", "[0:0::1]:443", ""),
        ("[2001:DB8::1]:", "[2001:db8::1]", ""),
        ("127.0.0.1:9090", "127.0.0.1:9090", ""),
        ("localhost", "localhost", ""),
        ("a.LOCALHOST.:443", "localhost", "a"),
        # A port that is empty is none.
        ("example.com:", "example.com", ""),
        ("a.example.com.:", "example.com:443", "a"),
        # At 80 a browser names no port.
        ("example.com", "example.com:80", ""),
        ("a.example.com:80", "example.com:80", "a"),
        ("[::1]", "[::1]:80", ""),
        ("xn--bcher-kva.example.com", "example.com", "xn--bcher-kva"),
        ("a.xn--bcher-kva.example", "XN--bcher-kva.example", "a"),
    ],
)
def test_a_host_at_or_below_the_cluster_is_ours(host: str, cluster: str, below: str) -> None:
    assert host_below(host, cluster) == below


@pytest.mark.parametrize(
    ("host", "cluster"),
    [
        ("foobarexample.com", "example.com"),
        ("abc.other.com", "example.com"),
        ("example.com.evil.com", "example.com"),
        ("example.com:8081", "example.com:8080"),
        ("example.com", "example.com:8080"),
        ("example.com:8080", "example.com"),
        ("example.com:80", "example.com"),
        (".example.com", "example.com"),
        ("", "example.com"),
        ("[::1]:9091", "[::1]:9090"),
        ("x[::1]:9090", "[::1]:9090"),
        ("example.com:443:443:1", "example.com"),
        ("example.com:443:443", "example.com"),
        ("example.com:8443:443", "example.com:8443"),
        ("example.com:443", "example.com:8443"),
        ("example.com:443", "example.com:80"),
        ("example.com:", "example.com:8443"),
        ("example.com:0", "example.com"),
        ("example.com:99999", "example.com"),
        ("example.com:0443", "example.com"),
        ("example.com:+443", "example.com"),
        ("example.com: 443", "example.com"),
        ("example.com:https", "example.com"),
        ("example.com..", "example.com"),
        (f"{'a.' * 130}example.com", "example.com"),
        ("user@example.com", "example.com"),
        ("user:443@example.com", "example.com"),
        ("example.com@evil.com", "example.com"),
        ("example.com,evil.com", "example.com"),
        ("example.com/", "example.com"),
        ("[example.com]", "example.com"),
        ("::1", "[::1]"),
        ("[::1", "[::1]"),
        ("[::1].", "[::1]"),
        ("[::1]443", "[::1]"),
        ("[::1]:80", "[::1]"),
        ("[::1%25lo]", "[::1]"),
        ("[::1%lo]", "[::1]"),
        ("[::ffff:127.0.0.1]", "127.0.0.1"),
        ("a.[::1]:9090", "[::1]:9090"),
        ("[a.[::1]]:9090", "[::1]:9090"),
        ("[v1.x]", "[::1]"),
    ],
)
def test_any_other_host_is_refused(host: str, cluster: str) -> None:
    with pytest.raises(errors.WrongHost, match="this proxy serves"):
        host_below(host, cluster)


@given(st.text())
def test_no_host_does_more_than_be_refused(host: str) -> None:
    try:
        below = host_below(host, CLUSTER)
    except errors.WrongHost:
        return

    assert host.lower().startswith(below)


@pytest.mark.parametrize(
    ("target", "upstream", "path", "prefix", "slash_missing"),
    [
        (f"/{DYNAMIC}/bar", "/bar", f"/{DYNAMIC}/bar", f"/{DYNAMIC}", False),
        (f"/{DYNAMIC}", "/", f"/{DYNAMIC}", f"/{DYNAMIC}", True),
        (f"/{DYNAMIC}?x=/y", "/?x=/y", f"/{DYNAMIC}", f"/{DYNAMIC}", True),
        (f"/{DYNAMIC}/", "/", f"/{DYNAMIC}/", f"/{DYNAMIC}", False),
        (f"/{DYNAMIC}//a/../b%2F", "//a/../b%2F", f"/{DYNAMIC}//a/../b%2F", f"/{DYNAMIC}", False),
        (f"/{DYNAMIC}/?a?b", "/?a?b", f"/{DYNAMIC}/", f"/{DYNAMIC}", False),
        (f"/{STATIC}/bar?q", f"/{STATIC}/bar?q", f"/{STATIC}/bar", "", False),
        (f"/{STATIC}", f"/{STATIC}", f"/{STATIC}", "", False),
    ],
)
def test_a_token_is_taken_off_the_path_unless_it_is_static(
    registry: Registry, target: str, upstream: str, path: str, prefix: str, slash_missing: bool
) -> None:
    route = find(registry, CLUSTER, CLUSTER, target)

    assert (route.target, route.path, route.prefix) == (upstream, path, prefix)
    assert route.slash_missing is slash_missing


@pytest.mark.parametrize("target", ["/", "//", "//x", "/?x", f"//{DYNAMIC}/"])
def test_a_path_without_a_token_is_a_bad_request(registry: Registry, target: str) -> None:
    with pytest.raises(errors.BadRequest, match="names no session"):
        find(registry, CLUSTER, CLUSTER, target)


@pytest.mark.parametrize(
    "target", ["", "*", "x", f"http://example.com/{DYNAMIC}/", "example.com:443"]
)
def test_a_target_that_is_no_path_is_a_bad_request(registry: Registry, target: str) -> None:
    with pytest.raises(errors.BadRequest, match="begins with '/'"):
        find(registry, CLUSTER, CLUSTER, target)


def test_a_request_without_a_host_is_no_request(registry: Registry) -> None:
    with pytest.raises(errors.BadRequest, match="expected a Host header"):
        find(registry, CLUSTER, "", "/x/")


@pytest.mark.parametrize(
    "value",
    [
        "favicon.ico",
        DYNAMIC[:-1],
        DYNAMIC + "A",
        DYNAMIC.lower(),
        f"s.{DYNAMIC}",
        STATIC.removeprefix("s."),
        "%41" + DYNAMIC[1:],
        DYNAMIC + "\n",
        UNKNOWN,
    ],
)
def test_what_leads_nowhere_is_gone(registry: Registry, value: str) -> None:
    with pytest.raises(errors.UnknownToken):
        find(registry, CLUSTER, CLUSTER, f"/{value}/")


@pytest.mark.parametrize("target", ["/", "/a/b?c", f"/{DYNAMIC}/"])
def test_a_token_in_the_host_leaves_the_path_alone(registry: Registry, target: str) -> None:
    route = find(registry, CLUSTER, f"{HOST.upper()}.{CLUSTER}", target)

    assert route.session.id == "hosted"
    assert (route.target, route.prefix, route.slash_missing) == (target, "", False)


def test_an_unknown_token_in_the_host_is_gone(registry: Registry) -> None:
    with pytest.raises(errors.UnknownToken):
        find(registry, CLUSTER, f"{'d' * 52}.{CLUSTER}", f"/{DYNAMIC}/")


@pytest.mark.parametrize(
    ("below", "token", "session"),
    [
        ("", DYNAMIC, "plain"),
        ("", STATIC, "static"),
        ("a.b.", HOME, "homed"),
        ("A.B.", HOME, "homed"),
    ],
)
def test_a_session_is_found_at_its_home(
    registry: Registry, below: str, token: str, session: str
) -> None:
    assert find(registry, CLUSTER, below + CLUSTER, f"/{token}/").session.id == session


@pytest.mark.parametrize(
    ("below", "token"),
    [
        ("", HOME),
        ("a.", HOME),
        ("b.", HOME),
        ("x.a.b.", HOME),
        ("a.b.", DYNAMIC),
        ("x.", STATIC),
        ("a.b..", HOME),
        (".a.b.", HOME),
        ("a..b.", HOME),
        ("u@a.b.", HOME),
        ("*.", DYNAMIC),
        ("..", DYNAMIC),
        ("a b.", DYNAMIC),
        ("", HOST),
        (f"x.{HOST}.", HOST),
    ],
)
def test_a_session_is_found_nowhere_else(registry: Registry, below: str, token: str) -> None:
    with pytest.raises(errors.WrongHost, match="another host"):
        find(registry, CLUSTER, below + CLUSTER, f"/{token}/")


@pytest.mark.parametrize(
    ("cluster", "session", "token", "url"),
    [
        ("localhost:9090", "plain", DYNAMIC, f"http://localhost:9090/{DYNAMIC}/"),
        ("example.com", "plain", DYNAMIC, f"https://example.com/{DYNAMIC}/"),
        ("example.com:443", "plain", DYNAMIC, f"https://example.com:443/{DYNAMIC}/"),
        ("example.com", "homed", HOME, f"https://a.b.example.com/{HOME}/"),
        ("localhost:9090", "hosted", HOST, f"http://{HOST}.localhost:9090/"),
        ("[::1]", "plain", DYNAMIC, f"https://[::1]/{DYNAMIC}/"),
        ("[::1]:9090", "static", STATIC, f"http://[::1]:9090/{STATIC}/"),
        ("example.com:80", "homed", HOME, f"http://a.b.example.com:80/{HOME}/"),
    ],
)
def test_a_url_leads_back_to_its_session(
    registry: Registry, cluster: str, session: str, token: str, url: str
) -> None:
    made = session_url(cluster, registry.get(session), token)
    host, slash, path = made.partition("://")[2].partition("/")

    assert made == url
    assert find(registry, cluster, host, slash + path).session.id == session


@pytest.mark.parametrize(
    ("cluster", "can"),
    [
        ("example.com", True),
        ("localhost:9090", True),
        ("10.example.com:443", True),
        ("a1.b2", True),
        ("[::1]", False),
        ("[::1]:9090", False),
        ("127.0.0.1", False),
        ("127.0.0.1:9090", False),
        ("127.1:80", False),
        ("2130706433", False),
        ("0x7F.1", False),
        ("1.0X7f", False),
    ],
)
def test_hosts_stand_below_names_and_not_below_addresses(cluster: str, can: bool) -> None:
    assert has_hosts_below(cluster) == can


@pytest.mark.parametrize("session", ["plain", "homed", "hosted"])
def test_where_only_tls_is_spoken_a_url_is_https_at_any_port(
    registry: Registry, session: str
) -> None:
    made = session_url("example.com:8443", registry.get(session), HOST, secure=True)

    assert made.startswith("https://")
    assert "example.com:8443/" in made


@pytest.mark.parametrize(
    ("host", "target", "token", "shown"),
    [
        (CLUSTER, f"/{DYNAMIC}/a/b?code=secret", DYNAMIC, "/a/b"),
        (CLUSTER, f"/{DYNAMIC}?code=secret", DYNAMIC, "/"),
        (CLUSTER, f"/{STATIC}/a?code=secret", STATIC, f"/{STATIC[:6]}…/a"),
        (CLUSTER, f"/{STATIC}/{STATIC}", STATIC, f"/{STATIC[:6]}…/{STATIC[:6]}…"),
        (CLUSTER, f"/{DYNAMIC}/a/{DYNAMIC}", DYNAMIC, f"/a/{DYNAMIC[:6]}…"),
        (f"{HOST}.{CLUSTER}", "/a?code=secret", HOST, "/a"),
        (CLUSTER, f"/{DYNAMIC}/{'F' * 43}/x", DYNAMIC, "/FFFFFF…/x"),
        (CLUSTER, f"/{DYNAMIC}{'/x' * 300}", DYNAMIC, "/x" * (MOST_SHOWN // 2)),
    ],
    ids=["path", "no path", "static", "static twice", "twice", "host", "another's", "long"],
)
def test_a_visit_tells_where_to_without_query_and_token(
    registry: Registry, host: str, target: str, token: str, shown: str
) -> None:
    visit = visit_of(find(registry, CLUSTER, host, target), "203.0.113.9")

    assert visit == Visit("203.0.113.9", shown, None, token)


def test_a_visit_tells_whose_link_it_was(registry: Registry) -> None:
    registry.grants.grant(Token("F" * 43, "plain", "", "ada"), 0.0)

    visit = visit_of(find(registry, CLUSTER, CLUSTER, f"/{'F' * 43}/"), "")

    assert visit.user == "ada"


def test_the_way_of_the_last_request_is_known_again(registry: Registry) -> None:
    way, target = Way(), f"/{DYNAMIC}/a".encode()

    first, again = (way.find(registry, CLUSTER, CLUSTER.encode(), target) for _ in range(2))

    assert first == find(registry, CLUSTER, CLUSTER, target.decode())
    assert again is first
    assert way.visit(again, "203.0.113.9") is way.visit(again, "203.0.113.9")
    assert way.visit(again, "203.0.113.10") == visit_of(first, "203.0.113.10")


@pytest.mark.parametrize(
    ("host", "target"),
    [(b"other.example", f"/{DYNAMIC}/a"), (CLUSTER.encode(), f"/{UNKNOWN}/a")],
    ids=["host", "target"],
)
def test_another_request_finds_its_own_way(registry: Registry, host: bytes, target: str) -> None:
    way = Way()
    way.find(registry, CLUSTER, CLUSTER.encode(), f"/{DYNAMIC}/a".encode())

    with pytest.raises(errors.PlaneError):
        way.find(registry, CLUSTER, host, target.encode())


def test_a_way_ends_with_its_token(registry: Registry) -> None:
    registry.grants.grant(Token("F" * 43, "plain", "", "ada"), 0.0)
    way, asked = Way(), (registry, CLUSTER, CLUSTER.encode(), f"/{'F' * 43}/".encode())
    way.find(*asked)

    registry.grants.revoke("plain", "ada")

    with pytest.raises(errors.UnknownToken):
        way.find(*asked)


def test_a_long_target_is_not_remembered(registry: Registry) -> None:
    way = Way()
    asked = (registry, CLUSTER, CLUSTER.encode(), f"/{DYNAMIC}/{'a' * MOST_REMEMBERED}".encode())

    first, again = way.find(*asked), way.find(*asked)

    assert again == first
    assert again is not first
    assert way.visit(first, "") == visit_of(first, "")


@pytest.mark.parametrize(
    ("host", "target", "url"),
    [
        ("example.com", "/", "https://example.com:8443/"),
        ("example.com:80", "/a/b?c=d&e", "https://example.com:8443/a/b?c=d&e"),
        ("Sub.Example.com:8080", "/x", "https://sub.example.com:8443/x"),
        ("a.b.example.com.", "/x", "https://a.b.example.com:8443/x"),
        ("other.com", "/x", "https://example.com:8443/x"),
        ("evilexample.com", "/x", "https://example.com:8443/x"),
        ("a b.example.com", "/x", "https://example.com:8443/x"),
        ("evil.com/.example.com", "/x", "https://example.com:8443/x"),
        ("evil.com@.example.com", "/x", "https://example.com:8443/x"),
        (".example.com", "/x", "https://example.com:8443/x"),
        ("a..example.com", "/x", "https://example.com:8443/x"),
        ("u@a.example.com", "/x", "https://example.com:8443/x"),
        ("a.example.com:", "/x", "https://a.example.com:8443/x"),
        ("[::1]:80", "/x", "https://example.com:8443/x"),
        ("", "/x", "https://example.com:8443/x"),
        ("example.com", "*", "https://example.com:8443/"),
        ("example.com", "//evil.com/", "https://example.com:8443//evil.com/"),
        ("example.com", "/\xe9%2F", "https://example.com:8443/%E9%2F"),
    ],
)
def test_by_https_a_place_is_at_the_cluster_and_its_port(host: str, target: str, url: str) -> None:
    assert secure_url("example.com:8443", host, target) == url


@pytest.mark.parametrize("host", ["[::1]", "[::1]:80", "[::1", "a.[::1]", "evil.com", "a.evil.com"])
def test_by_https_an_address_has_nothing_below(host: str) -> None:
    assert secure_url("[::1]:8443", host, "/x") == "https://[::1]:8443/x"


def test_by_https_a_cluster_without_a_port_has_none() -> None:
    assert secure_url(CLUSTER, "a.example.com:80", "/") == "https://a.example.com/"


@given(st.text(st.characters(max_codepoint=255)), st.text(st.characters(max_codepoint=255)))
def test_by_https_nothing_leads_away_from_the_cluster(host: str, target: str) -> None:
    url = urlsplit(secure_url("example.com:8443", host, target))

    assert url.scheme == "https"
    assert f".{url.netloc}".endswith(".example.com:8443")
    assert secure_url("example.com:8443", host, target).isascii()


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        (f"/pub/b/{DYNAMIC}/status", f"/pub/b/{DYNAMIC[:6]}…/status"),
        (f"there is no {STATIC!r}", f"there is no '{STATIC[:6]}…'"),
        (f"/{DYNAMIC[:20]}%41{DYNAMIC[21:]}/x", f"/{DYNAMIC[:6]}…/x"),
        (f"{HOST}.example.com", f"{HOST[:6]}….example.com"),
        ("/ctrl/b/818tf4dl6hqsct", "/ctrl/b/818tf4dl6hqsct"),
    ],
)
def test_of_a_token_in_a_text_six_characters_are_left(text: str, shown: str) -> None:
    assert hide_tokens(text) == shown
