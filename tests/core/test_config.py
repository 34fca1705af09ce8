"""The configuration: every key has a default, and a wrong one is named in one line."""

from __future__ import annotations

import pytest

from plane_tx.core.apikeys import ApiKey, KeyFile, Scope
from plane_tx.core.config import control_url, own_origin, parse_config, proxy_url, state_dir
from plane_tx.core.connect import CapacityLimits
from plane_tx.core.containers import VolumeRequest
from plane_tx.core.errors import ConfigError
from plane_tx.core.hardening import Addressing, Egress, Hardening, HardeningChange
from plane_tx.core.idlerule import IdleRequest
from plane_tx.core.model import IdleCount, PullPolicy, Routing
from plane_tx.core.sections import Config, PagesConfig
from plane_tx.core.spec import Defaults
from plane_tx.core.wire import ExecutableRequest, ReadinessRequest, ResourceLimitsRequest

WHOLE = """
[control]
endpoint = ["tcp:80:interface=127.0.0.1", "unix:/run/plane.sock"]
url = "http://control"
[proxy]
endpoint = "tcp:9090"
cluster = "example.com"
hold_seconds = 5
root_redirect_url = "https://example.com"
redirect_endpoint = "tcp:80"
trusted_proxies = ["10.0.0.0/8", "unix"]
shutdown_seconds = 1
idle_timeout_seconds = 90
access_log = "access.log"
access_log_format = "text"
[engine]
kind = "docker"
docker_socket = "/d.sock"
instance = "two"
process_first_port = 1
process_last_port = 1
allow_request_commands = true
process_user = "nobody"
mount_base = "/srv/mounts"
allow_requests = ["gpus", "mount"]
allow_images = ["docker.io/library/*"]
runtime = "runsc"
egress = "none"
address = "container"
inter_container = true
[engine.hardening]
cap_drop = ["NET_RAW"]
no_new_privileges = false
pids_limit = 7
swap = true
init = false
log_max_bytes = 8
log_files = 9
[defaults]
max_idle_seconds = 0
startup_timeout_seconds = 1
stop_grace_seconds = 2.5
[defaults.idle]
count = "messages"
ignore = ["phoenix", "ping"]
[limits]
max_sessions = 1
max_sessions_per_user = 2
max_starting = 3
[state]
dir = "~/state"
[pages]
waiting = false
logs = true
dir = "pages"
[demo]
app = "a"
key = "k"
[apps.a]
image = "i"
command = ["c"]
entrypoint = ["e"]
env = {A = "1"}
port = 80
user = "u"
workdir = "/"
pull_policy = "Never"
network_name = "n"
egress = "open"
read_only = true
cap_add = ["NET_ADMIN"]
runtime = "runsc"
gpus = "all"
mount = true
volumes = [{ name = "v", path = "/v", read_only = true }]
max_idle_seconds = 1
lifetime_limit_seconds = 2
routing = "host"
[apps.a.credentials]
username = "u"
password = "p"
[apps.a.resource_limits]
cpus = 0.5
[apps.a.readiness]
path = "/up"
[apps.a.tmpfs]
"/tmp" = "size=64m,mode=1777"
[apps.a.idle]
count = "bytes"
[apps.a.hardening]
cap_drop = []
no_new_privileges = true
pids_limit = 1
swap = false
init = true
log_max_bytes = 2
log_files = 3
"""


#: What no complaint may show.
SECRET = "s3cret-and-17-long"


def test_an_empty_file_is_all_defaults() -> None:
    config = parse_config("", "plane.toml")

    assert config == Config()
    assert config.control.endpoint == ("tcp:8080:interface=127.0.0.1",)
    assert config.proxy.endpoint == ("tcp:9090:interface=127.0.0.1",)
    assert (config.proxy.cluster, config.proxy.hold_seconds) == ("localhost:9090", 30.0)
    assert (config.engine.kind, config.engine.instance) == ("auto", "default")
    assert config.defaults.to_defaults(config.engine) == Defaults(300.0, 300.0, 10.0)
    assert config.limits.to_limits() == CapacityLimits(0, 0, 8)


def test_every_key_is_read() -> None:
    config = parse_config(WHOLE, "plane.toml")

    assert config.control.endpoint == ("tcp:80:interface=127.0.0.1", "unix:/run/plane.sock")
    assert config.proxy.endpoint == ("tcp:9090",)
    assert config.proxy.redirect_endpoint == ("tcp:80",)
    assert config.proxy.trusted_proxies == ("10.0.0.0/8", "unix")
    assert config.proxy.shutdown_seconds == 1
    assert config.proxy.idle_timeout_seconds == 90
    assert (config.proxy.access_log, config.proxy.access_log_format) == ("access.log", "text")
    assert config.engine.allow_request_commands
    assert config.engine.address is Addressing.CONTAINER
    assert config.engine.inter_container
    assert config.engine.process_user == "nobody"
    assert config.defaults.to_defaults(config.engine) == Defaults(
        None, 1, 2.5, frozenset({"gpus", "mount"}),
        IdleRequest(IdleCount.MESSAGES, ("phoenix", "ping")),
        ("docker.io/library/*",), "runsc", Egress.NONE,
        Hardening(("NET_RAW",), False, 7, True, False, 8, 9),
    )  # fmt: skip
    assert config.limits.to_limits() == CapacityLimits(1, 2, 3)
    assert config.state.dir == "~/state"
    assert config.pages == PagesConfig(waiting=False, logs=True, dir="pages")
    assert config.demo.key == "k"


def test_keys_are_read_and_files_of_keys_are_named() -> None:
    text = f"[control]\napi_keys = ['ci:connect,read:{SECRET}', {{file = 'keys'}}]"
    key, file = parse_config(text, "plane.toml").control.api_keys

    assert isinstance(key, ApiKey)
    assert (key.name, key.scopes) == ("ci", {Scope.CONNECT, Scope.READ})
    assert file == KeyFile("keys")


#: What no session URL can be built from.
NO_CLUSTERS = [
    "x/y", "x:", "x:0", "x:99999", "x:65536", "x:080", "x:a", "x:٤٤٣", "user@x", "x y", ".x", "x.",
    "a..b", "*.x", "bücher.example", "\u212a.example", "::1", "[::1", "[::1]:", "[:::]", "[1:2]",
    "[::1%25lo]", "[v1.x]", "x:1:2", "x?y", "x#y",
]  # fmt: skip


@pytest.mark.parametrize(
    "entries",
    [
        f"'ci:admin:{SECRET}'",
        f"{{file = 'ci:admin:{SECRET}'}}",
        f"[['ci:admin:{SECRET}']]",
        f"[{{file = 'x', secret = 'ci:admin:{SECRET}'}}]",
        f"[{{secret = 'ci:admin:{SECRET}'}}]",
        "[{file = ''}]",
        '[{file = "a\\u0000b"}]',
        "[{file = 1}]",
        "[1]",
        f"['{SECRET}']",
        f"['ci:{SECRET}']",
        f"['ci:{SECRET}:admin']",
        f"['{SECRET}:admin:ci']",
        f"['a b:admin:{SECRET}']",
        f"['ci:admin:sha256:{SECRET}']",
    ],
)
def test_what_is_wrong_with_keys_is_said_without_showing_them(entries: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_config(f"[control]\napi_keys = {entries}", "plane.toml")

    assert str(caught.value).startswith("plane.toml: control.api_keys")
    assert "expected" in str(caught.value)
    assert str(caught.value).isprintable()
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize(
    "protection",
    [f"api_keys = ['ci:admin:{SECRET}']", "forward_auth = 'http://auth_1:9000/in?x=1'"],
)
def test_with_protection_the_control_listener_may_be_open(protection: str) -> None:
    config = parse_config(f"[control]\nendpoint = 'tcp:8080'\n{protection}", "plane.toml")

    assert config.control.endpoint == ("tcp:8080",)


def test_a_secret_is_not_in_what_a_configuration_shows_of_itself() -> None:
    text = f"[control]\napi_keys = ['ci:admin:{SECRET}']"

    assert SECRET not in repr(parse_config(text, "plane.toml"))


@pytest.mark.parametrize(
    ("url", "origin"),
    [
        ("", None),
        ("https://control.example.com/plane", ("https", "control.example.com")),
        ("http://[::1]:81", ("http", "[::1]:81")),
    ],
)
def test_pages_of_our_own_are_those_under_the_configured_url(
    url: str, origin: tuple[str, str] | None
) -> None:
    assert own_origin(parse_config(f"[control]\nurl = '{url}'", "plane.toml")) == origin


def test_the_root_may_lead_into_a_page() -> None:
    url = "https://example.com:8443/app?x=1#/home"

    config = parse_config(f"[proxy]\nroot_redirect_url = '{url}'", "plane.toml")

    assert config.proxy.root_redirect_url == url


def test_an_empty_redirect_endpoint_means_none() -> None:
    config = parse_config("[proxy]\nredirect_endpoint = ''", "plane.toml")

    assert config.proxy.redirect_endpoint == ()


def test_an_app_becomes_an_executable_with_its_limits() -> None:
    app = parse_config(WHOLE, "plane.toml").apps["a"].to_app()

    assert (app.max_idle_seconds, app.lifetime_limit_seconds) == (1, 2)
    assert app.idle == IdleRequest(IdleCount.BYTES)
    assert app.routing is Routing.HOST
    assert app.executable.pull_policy is PullPolicy.NEVER
    assert app.executable.readiness == ReadinessRequest("/up")
    assert app.executable.resource_limits == ResourceLimitsRequest(cpus=0.5)
    assert app.executable.credentials.password == "p"
    assert app.executable.volumes == (VolumeRequest("v", "/v", True),)
    assert (app.executable.gpus, app.executable.mount) == ("all", True)
    assert app.executable.egress is Egress.OPEN
    assert app.hardening == HardeningChange((), True, 1, False, True, 2, 3)
    assert isinstance(app.executable, ExecutableRequest)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("x", "not TOML: Expected '=' after a key"),
        ("[contrl]", "contrl: unknown field; did you mean 'control'?"),
        ("[proxy]\nclusters = 'x'", "proxy.clusters: unknown field; did you mean 'cluster'?"),
        ("proxy = 1", "proxy: expected an object, got 1"),
        ("[proxy]\nendpoint = 9090", "proxy.endpoint: expected a list, got 9090"),
        ("[proxy]\nendpoint = [1]", "proxy.endpoint[0]: expected a string, got 1"),
        ("[proxy]\nhold_seconds = -1", "proxy.hold_seconds: expected a number >= 0, got -1"),
        ("[proxy]\nhold_seconds = nan", "proxy.hold_seconds: expected a number >= 0, got NaN"),
        ("[proxy]\nhold_seconds = 1979-05-27", "proxy.hold_seconds: expected a number >= 0, got"),
        ("[limits]\nmax_sessions = 1.5", "limits.max_sessions: expected a whole number >= 0, got"),
        ("[engine]\nkind = 'podman'", 'engine.kind: expected "auto" or "docker" or "process"'),
        ("[engine]\nkind = \"a\\nb\"", 'engine.kind: expected "auto" or "docker" or "process"'),
        ("[engine]\ninstance = ''", "engine.instance: expected 1 to 64 letters, digits, '.', '_'"),
        ("[engine]\ninstance = '../x'", "engine.instance: expected 1 to 64 letters"),
        ("[pages]\nwaiting = 1", "pages.waiting: expected"),
        ("[pages]\ndir = \"/a\\u0000\"", 'pages.dir: expected a path, or "", got'),
        ("[state]\ndir = 'x'", 'state.dir: expected a path that begins with / or ~/, got "x"'),
        ("[state]\ndir = '~x/y'", "state.dir: expected a path that begins with / or ~/"),
        ("[state]\ndir = \"/a\\u0000\"", "state.dir: expected a path that begins with / or ~/"),
        ("[engine]\nprocess_first_port = 0", "engine.process_first_port: expected a port from"),
        ("[engine]\nprocess_first_port = 30000", "engine.process_last_port: expected at least"),
        ("[engine]\nallow_request_commands = 1", "engine.allow_request_commands: expected true or"),
        ("[engine]\nmount_base = 'x'", 'engine.mount_base: expected an absolute path, or "", got'),
        ("[engine]\nallow_requests = ['user']", "engine.allow_requests: expected some of cap_add,"),
        ("[engine]\nruntime = 'a b'", 'engine.runtime: expected the name of a runtime, or "", got'),
        ("[engine]\negress = 'shut'", 'engine.egress: expected "open" or "none", got "shut"'),
        ("[engine]\naddress = 'ip'", 'engine.address: expected "auto" or "container" or "pub'),
        (
            "[engine]\negress = 'none'\naddress = 'published'",
            'engine.egress: "none" publishes no port: engine.address must not be "published"',
        ),
        (
            "[engine]\naddress = 'published'\n[apps.a]\negress = 'none'",
            'apps."a".egress: "none" publishes no port',
        ),
        (
            "[apps.a]\nnetwork_name = 'n'\negress = 'none'",
            'apps."a".egress: "none" does not go with a network_name',
        ),
        (
            "[engine.hardening]\ncap_drop = ['all']",
            'engine.hardening.cap_drop: expected names of capabilities(7), got "all"',
        ),
        (
            "[apps.a.hardening]\nlog_files = 0",
            'apps."a".hardening.log_files: expected at least 1',
        ),
        ("[apps.a.hardening]\npids_limit = -1", "apps['a'].hardening.pids_limit: expected"),
        ("[apps.a]\nmount = true", 'apps."a".mount: there is no place for it: set engine.mount_'),
        ("[apps.a]\ncap_add = ['x']", 'apps."a".cap_add: expected names of capabilities(7), got'),
        (
            "[control]\nendpoint = 'systemd:domain=INET:name=control'",
            "control.url: say where clients find the socket of systemd: http://127.0.0.1:8080",
        ),
        ("[control]\nendpoint = 'tcp:8080'", 'control.endpoint: "tcp:8080" is open to the network'),
        (
            "[control]\nendpoint = ['unix:/x', 'tcp:80:interface=0.0.0.0']",
            ('control.endpoint: "tcp:80:interface=0.0.0.0" is open to the network, where api_keys'
            ' must say who may call: set them, or use "tcp:PORT:interface=127.0.0.1" or a unix'
            ' socket'),
        ),
        (
            "[control]\nendpoint = \"tcp:\\n80\"",
            'control.endpoint: "tcp:\\n80" is no endpoint: expected "tcp:PORT:interface=ADDRESS"',
        ),
        (
            "[proxy]\nendpoint = ['tcp:80', 'tcp:abc']",
            'proxy.endpoint: "tcp:abc" is no endpoint: port: expected a port from 0 to 65535, got',
        ),
        ("[proxy]\nendpoint = ''", "proxy.endpoint: expected at least one endpoint"),
        ("[proxy]\nredirect_endpoint = ['']", 'proxy.redirect_endpoint: "" is no endpoint: '),
        *(
            (
                f"[proxy]\nroot_redirect_url = {url}",
                "proxy.root_redirect_url: expected http or https://host[:port][/path]",
            )
            for url in (
                '"https://a/\\r\\nX: y"', '"https://a/#\\r\\nX: y"', '"/home"', '"https://a/ b"',
                '"ftp://a/"', '"https://a/\\u00e9"', '"javascript:x"', '"https://a@b/"', '"https://"',
            )
        ),
        ("[control]\nendpoint = []", "control.endpoint: expected at least one endpoint"),
        ("[control]\nurl = 'control.example.com'", "control.url: expected http or https://host"),
        ("[control]\nforward_auth = 'https://x'", "control.forward_auth: expected http://host"),
        ("[control]\nforward_auth = 'x'", "control.forward_auth: expected http://host[:port]"),
        ("[control]\nforward_auth = 'http://a@x'", "control.forward_auth: expected http://host"),
        ("[control]\nforward_auth = 'http://x#y'", "control.forward_auth: expected http://host"),
        ("[control]\nforward_auth = 'http://x:y'", "control.forward_auth: expected http://host"),
        ("[control]\nforward_auth = 'http://x/\u00e9'", "control.forward_auth: expected http://"),
        (
            f"[control]\napi_keys = ['ci:admin:{SECRET}']\nforward_auth = 'http://x'",
            "control.forward_auth: not together with api_keys: choose one",
        ),
        (
            f"[control]\napi_keys = ['ci:admin:{SECRET}']\n[apps.a]\n[demo]\napp = 'a'",
            "demo.app: everyone may visit the demo: not with control.api_keys or forward_auth",
        ),
        (
            "[control]\nforward_auth = 'http://x'\n[apps.a]\n[demo]\napp = 'a'",
            "demo.app: everyone may visit the demo",
        ),
        ("[proxy]\nendpoint = []", "proxy.endpoint: expected at least one endpoint"),
        ("[proxy]\ncluster = ''", 'proxy.cluster: expected a host name, or host:port, got ""'),
        ("[proxy]\ncluster = 'http://x'", "proxy.cluster: expected a host name"),
        *(
            (f"[proxy]\ncluster = '{cluster}'", "proxy.cluster: expected a host name")
            for cluster in NO_CLUSTERS
        ),
        (
            "[proxy]\ntrusted_proxies = ['unix', '10.0.0.1/8']",
            ('proxy.trusted_proxies[1]: expected an address, a network like "10.0.0.0/8" (its'
            ' host bits zero), or "unix", got "10.0.0.1/8"'),
        ),
        ("[proxy]\ntrusted_proxies = 'unix'", "proxy.trusted_proxies: expected a list, got"),
        ("[proxy]\nredirect_endpoint = 80", "proxy.redirect_endpoint: expected a list, got 80"),
        (
            '[proxy]\naccess_log_format = "xml"',
            'proxy.access_log_format: expected "json" or "text", got "xml"',
        ),
        ('[proxy]\naccess_log = "a\\u0000b"', "proxy.access_log: expected a path"),
        ('[proxy]\naccess_log = "a\\nb"', "proxy.access_log: expected a path"),
        ("[proxy]\nidle_timeout_seconds = -1", "proxy.idle_timeout_seconds: expected a number"),
        ("[proxy]\nshutdown_seconds = -1", "proxy.shutdown_seconds: expected a number >= 0"),
        ("[defaults.idle]\ncount = 'x'", 'defaults.idle.count: expected "connections" or "messag'),
        (
            "[defaults.idle]\nignore = ['ping']",
            'defaults.idle.ignore: needs count = "messages"; set that, or leave ignore out',
        ),
        (
            "[apps.a.idle]\ncount = 'bytes'\nignore = ['ping']",
            'apps."a".idle.ignore: needs count = "messages"',
        ),
        (
            "[apps.a.idle]\ncount = 'messages'\nignore = ['ping', '*']",
            'apps."a".idle.ignore[1]: ',
        ),
        ("[demo]\napp = 'x'", 'demo.app: no app "x" in this file'),
        ("[demo]\napp = \"x\\ny\"", 'demo.app: no app "x\\ny" in this file'),
        ("[apps.a]\nimag = 'x'", "apps['a'].imag: unknown field; did you mean 'image'?"),
        ("[apps.a]\nport = 'x'", "apps['a'].port: expected a port from 1 to 65535, got \"x\""),
        ("[apps.a]\ncommand = []", 'apps."a".command: expected at least one word'),
        ("[apps.a.readiness]\npath = 'up'", "apps.\"a\".readiness.path: expected '/' and visible"),
        ("[apps.a.env]\n'A=B' = ''", "apps.\"a\".env: 'A=B' cannot be an environment variable"),
        ("\"a\\nb\" = 1", "'a\\nb': unknown field; known here: apps,"),
        ("[apps.\"a\\nb\"]\nport = 0", "apps['a\\nb'].port: expected a port"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said_in_one_line_with_file_and_key(text: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_config(text, "plane.toml")

    assert str(caught.value).startswith(f"plane.toml: {message}")
    assert str(caught.value).isprintable()


@pytest.mark.parametrize(
    ("text", "url"),
    [
        ("", "http://127.0.0.1:8080"),
        ("endpoint = 'tcp:81:interface=127.0.0.1'", "http://127.0.0.1:81"),
        ("endpoint = 'unix:/run/plane.sock'", "http://localhost"),
        ("endpoint = 'tcp:81:interface=127.0.0.2'", "http://127.0.0.2:81"),
        ("endpoint = 'tcp:interface=127.0.0.1:port=81'", "http://127.0.0.1:81"),
        (r"endpoint = 'tcp6:81:interface=\:\:1'", "http://[::1]:81"),
        ("endpoint = 'ssl:81:interface=127.0.0.1'", "https://127.0.0.1:81"),
        ("url = 'https://control.example.com/'", "https://control.example.com"),
    ],
)
def test_the_control_listener_is_found_where_it_listens_unless_said(text: str, url: str) -> None:
    assert control_url(parse_config(f"[control]\n{text}", "plane.toml")) == url


@pytest.mark.parametrize(
    ("cluster", "url"),
    [
        ("localhost", "https://localhost"),
        ("localhost:9090", "http://localhost:9090"),
        ("example.com", "https://example.com"),
        ("example.com:443", "https://example.com:443"),
        ("example.com:8443", "http://example.com:8443"),
        ("a.xn--bcher-kva.example", "https://a.xn--bcher-kva.example"),
        ("[::1]:9090", "http://[::1]:9090"),
        ("[2001:db8::1]", "https://[2001:db8::1]"),
        ("[2001:db8::1]:443", "https://[2001:db8::1]:443"),
        ("127.0.0.1:65535", "http://127.0.0.1:65535"),
    ],
)
def test_the_proxy_is_found_at_its_cluster(cluster: str, url: str) -> None:
    assert proxy_url(parse_config(f"[proxy]\ncluster = '{cluster}'", "plane.toml")) == url


@pytest.mark.parametrize(
    ("endpoints", "url"),
    [
        ("['ssl:8443']", "https://a:8443"),
        ("['ssl:8443', 'ssl:443']", "https://a:8443"),
        ("['ssl:8443', 'tcp:80']", "http://a:8443"),
    ],
)
def test_a_proxy_that_speaks_only_tls_is_found_by_https_at_any_port(
    endpoints: str, url: str
) -> None:
    text = f"[proxy]\nendpoint = {endpoints}\ncluster = 'a:8443'"

    assert proxy_url(parse_config(text, "plane.toml")) == url


@pytest.mark.parametrize(
    ("text", "environ", "where"),
    [
        ("", {}, "~/.local/state/plane_tx"),
        ("", {"XDG_STATE_HOME": "/x"}, "/x/plane_tx"),
        ("", {"XDG_STATE_HOME": "relative"}, "~/.local/state/plane_tx"),
        ("", {"STATE_DIRECTORY": "", "XDG_STATE_HOME": ""}, "~/.local/state/plane_tx"),
        ("", {"STATE_DIRECTORY": "/var/lib/a", "XDG_STATE_HOME": "/x"}, "/var/lib/a"),
        ("", {"STATE_DIRECTORY": "/var/lib/a:/var/lib/b"}, "/var/lib/a"),
        ("dir = '/d'", {"STATE_DIRECTORY": "/var/lib/a"}, "/d"),
    ],
)
def test_state_is_where_the_file_says_or_else_where_the_system_keeps_it(
    text: str, environ: dict[str, str], where: str
) -> None:
    assert state_dir(parse_config(f"[state]\n{text}", "plane.toml"), environ) == where
