"""docs/migrating.md has every route, field, value and option of Plane's, and says what is so."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator

import pytest

from plane_tx.core.model import Key
from plane_tx.engines.docker.mounts import directory_of
from tests.docs.pages import ROOT

PAGE = (ROOT / "docs/migrating.md").read_text()
SPEC = json.loads((ROOT / "plane_tx/control/openapi.json").read_text())
SCHEMAS = SPEC["components"]["schemas"]

#: What the page may say of each, and whether it is then in the contract.
WORDS = {
    "same": True, "more": True, "differs": True, "ignored": True, "refused": True, "none": False,
}  # fmt: skip

#: Plane's HTTP API, as read from its source at abca8022 (0.5.6): where it stands in ours, or None.
ROUTES = {
    "GET /ctrl/status": ("/ctrl/status", "get"),
    "POST /ctrl/connect": ("/ctrl/connect", "post"),
    "POST /ctrl/b/{backend}/soft-terminate": ("/ctrl/b/{session_id}/soft-terminate", "post"),
    "POST /ctrl/b/{backend}/hard-terminate": ("/ctrl/b/{session_id}/hard-terminate", "post"),
    "POST /ctrl/b/revoke": ("/ctrl/b/revoke", "post"),
    "GET /ctrl/c/{cluster}/state": ("/ctrl/c/{cluster_name}/state", "get"),
    "POST /ctrl/c/{cluster}/d/{drone}/drain": (
        "/ctrl/c/{cluster_name}/d/{drone}/drain", "post",
    ),
    "GET /ctrl/c/{cluster}/drone-socket": ("/ctrl/c/{cluster_name}/drone-socket", "get"),
    "GET /ctrl/c/{cluster}/proxy-socket": ("/ctrl/c/{cluster_name}/proxy-socket", "get"),
    "GET /ctrl/dns-socket": ("/ctrl/dns-socket", "get"),
    "GET /pub/health": ("/pub/health", "get"),
    "GET /pub/b/{backend}/status": ("/pub/b/{session_id}/status", "get"),
    "GET /pub/b/{backend}/status-stream": ("/pub/b/{session_id}/status-stream", "get"),
}  # fmt: skip

PROXY_ROUTES = ["/ready", "/", "/{token}/…", "/s.{token}/…"]

#: Plane's fields: by our schema, the names that the page has of them.
FIELDS = {
    "ConnectRequest": ["key", "spawn_config", "user", "auth"],
    "KeyRequest": ["key.name", "key.namespace", "key.tag"],
    "SpawnConfig": [
        "spawn_config.id", "spawn_config.cluster", "spawn_config.pool", "spawn_config.executable",
        "spawn_config.lifetime_limit_seconds", "spawn_config.max_idle_seconds",
        "spawn_config.use_static_token", "spawn_config.subdomain",
    ],
    "Executable": [
        "image", "pull_policy", "credentials", "env", "resource_limits", "mount", "network_name",
    ],
    "Credentials": ["credentials.username", "credentials.password"],
    "ResourceLimits": [
        "resource_limits.cpu_period", "resource_limits.cpu_period_percent",
        "resource_limits.cpu_time_limit", "resource_limits.memory_limit_bytes",
        "resource_limits.disk_limit_bytes",
    ],
    "ConnectResponse": [
        "backend_id", "spawned", "status", "token", "url", "subdomain", "secret_token",
        "status_url", "drone",
    ],
    "StatusEntry": ["status", "termination_reason", "termination_kind", "exit_error", "time"],
    "RevokeRequest": ["backend_id", "user"],
    "Updated": ["updated"],
    "ClusterState": ["drones", "proxies"],
    "Drone": ["ready", "draining", "last_heartbeat_age", "backend_count", "node"],
    "DroneNode": [
        "name", "plane_version", "plane_hash", "controller", "controller_heartbeat_age",
    ],
    "ProxyNode": [
        "name", "plane_version", "plane_hash", "controller", "controller_heartbeat_age",
    ],
    "ServerStatus": ["status", "version", "hash"],
    "Error": ["id", "kind", "message"],
}  # fmt: skip

STATUSES = [
    "scheduled", "loading", "starting", "waiting", "ready", "terminating", "hard-terminating",
    "terminated",
]  # fmt: skip
KINDS_OF_END = ["soft", "hard"]
REASONS = ["swept", "external", "keyexpired", "lost", "startuptimeout", "internalerror"]
ERRORS = [
    "FailedToAcquireKey", "KeyUnheldNoSpawnConfig", "KeyHeldUnhealthy", "KeyHeld",
    "NoDroneAvailable", "FailedToRemoveKey", "DatabaseError", "NoClusterProvided", "NotFound",
    "InvalidClusterName", "Other",
]  # fmt: skip

#: What has no place in openapi.json: tests of the proxy, the engine and of what a session sees
#: (tests/plane, tests/proxy) hold those; here they are to be named.
ELSE = [
    "PORT", "SESSION_BACKEND_ID", "SESSION_BACKEND_KEY", "SESSION_BACKEND_FENCING_TOKEN",
    "SESSION_BACKEND_STATIC_TOKEN", "x-verified-username", "x-verified-user-data",
    "x-verified-path", "x-verified-backend", "x-verified-secret", "x-forwarded-for",
    "x-forwarded-proto", "Host", "/plane-data", "x-plane-backend-id", "server",
    "access-control-allow-origin",
]  # fmt: skip
OPTIONS = {
    "controller": [
        "db", "host", "port", "controller-url", "default-cluster", "forward-auth",
        "cleanup-min-age-days", "best-of",
    ],
    "drone": [
        "name", "controller-url", "cluster", "ip", "db", "docker-runtime", "executor-socket",
        "log-config", "pool", "mount-base", "auto-prune-images",
        "auto-prune-containers-older-than-seconds",
    ],
    "proxy": [
        "name", "controller-url", "cluster", "https", "http-port", "https-port", "cert-path",
        "acme-endpoint", "acme-email", "acme-eab-kid", "acme-eab-hmac-key", "root-redirect-url",
    ],
}  # fmt: skip
COMMANDS = [
    "dns", "db-cli", "admin connect", "admin terminate", "admin backend-status", "admin drain",
    "admin status", "admin cluster-state",
]  # fmt: skip


def rows() -> Iterator[tuple[str, str, str]]:
    """The heading, the name in Plane and the word of every row."""
    tables = PAGE.partition("\n## Every route and field\n")[2]
    for part in tables.split("\n### ")[1:]:
        heading, _, body = part.partition("\n")
        for line in body.splitlines():
            cells = [cell.strip() for cell in line.strip("|").split(" | ")]
            if line.startswith("| ") and cells[0] not in ("Plane", "---"):
                yield heading, cells[0].replace("`", ""), cells[1]


ROWS = list(rows())


def said(*headings: str) -> dict[str, str]:
    return {name: word for heading, name, word in ROWS if heading in headings}


def test_every_row_says_one_of_the_words_and_no_name_is_there_twice() -> None:
    names = [(heading, name) for heading, name, _ in ROWS]

    assert {word for _, _, word in ROWS} <= set(WORDS)
    assert len(names) == len(set(names))
    assert len(names) > 100


def test_every_route_of_planes_is_there_and_in_the_contract_where_it_says_so() -> None:
    table = {name: word for name, word in said("Routes").items() if not name.startswith("proxy:")}

    in_contract = {
        name: method in SPEC["paths"].get(path, {}) for name, (path, method) in ROUTES.items()
    }

    assert {name: WORDS[word] for name, word in table.items()} == in_contract
    assert {f"proxy: {path}" for path in PROXY_ROUTES} <= said("Routes").keys()


@pytest.mark.parametrize("schema", FIELDS)
def test_every_field_of_planes_is_there_and_in_the_contract(schema: str) -> None:
    table = said("Of a connect", "Of an executable", "Of answers")
    table = {name.partition(": ")[2] or name: word for name, word in table.items()}

    not_named = [name for name in FIELDS[schema] if name not in table]
    not_in_contract = [
        name for name in FIELDS[schema]
        if name.rpartition(".")[2] not in SCHEMAS[schema]["properties"]
    ]  # fmt: skip

    assert not_named == []
    assert not_in_contract == []


@pytest.mark.parametrize(
    ("values", "known"),
    [
        (STATUSES, SCHEMAS["Status"]["enum"]),
        (KINDS_OF_END, SCHEMAS["TerminationKind"]["enum"]),
        (REASONS, SCHEMAS["StatusEntry"]["properties"]["termination_reason"]["enum"]),
        (ERRORS, SCHEMAS["ErrorKind"]["enum"]),
    ],
    ids=["statuses", "kinds", "reasons", "errors"],
)
def test_every_value_of_planes_is_there_and_in_the_contract_where_it_says_so(
    values: list[str], known: list[str]
) -> None:
    table = said("Values")

    in_contract = {value: value in known for value in values}

    assert {value: WORDS[table[value]] for value in values} == in_contract


def test_every_header_variable_option_and_program_of_planes_is_there() -> None:
    options = [f"{one} --{option}" for one, found in OPTIONS.items() for option in found]
    named = {name for _, name, _ in ROWS}

    assert [name for name in [*ELSE, *options, *COMMANDS] if name not in named] == []


def test_a_mount_is_where_the_page_has_it_moved_to() -> None:
    assert "mv /srv/plane-mounts/notes /srv/plane-mounts/@default/notes\n" in PAGE

    assert directory_of(Key("notes"), True) == ("@default", "notes")


def test_what_is_more_here_is_in_the_contract() -> None:
    (more,) = re.findall(r"\n## What is more here\n(.*?)\n## ", PAGE, re.DOTALL)
    words = set(re.findall(r"`([a-z_]+)`", more))

    known = {name for schema in SCHEMAS.values() for name in schema.get("properties", {})}

    assert words - known == set()
