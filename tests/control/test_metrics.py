import pytest
from prometheus_client.parser import text_string_to_metric_families

from plane_tx.core.use import UseKind, Visit


@pytest.fixture
def sample(ask):
    """The value of a sample by its name and labels; None if it is not told."""

    def sample(name, **labels):
        text = ask("GET", "/metrics").body.decode()
        for family in text_string_to_metric_families(text):
            for each in family.samples:
                if (each.name, each.labels) == (name, labels):
                    return each.value
        return None

    return sample


def test_it_is_prometheus_text_that_no_cache_keeps(ask):
    answer = ask("GET", "/metrics")

    assert answer.status == 200
    assert answer.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    assert answer.headers["cache-control"] == "no-store"


def test_sessions_are_counted_by_status(sample, spawn, make_ready):
    make_ready(spawn("a")["backend_id"])
    spawn("b")

    counts = {
        status: sample("plane_tx_sessions", status=status)
        for status in ("loading", "ready", "terminated")
    }

    assert counts == {"loading": 1, "ready": 1, "terminated": 0}


def test_spawns_joins_and_refusals_are_counted(sample, spawn, make_ready, ask):
    make_ready(spawn("a")["backend_id"])
    ended = spawn("b")["backend_id"]
    ask("POST", f"/ctrl/b/{ended}/hard-terminate")
    ask("POST", "/ctrl/connect", body={"key": {"name": "a"}})
    ask("POST", "/ctrl/connect", body={"key": {"name": "unheld"}})

    assert sample("plane_tx_spawns_total", outcome="ready") == 1
    assert sample("plane_tx_spawns_total", outcome="external") == 1
    assert sample("plane_tx_joins_total") == 1
    assert sample("plane_tx_connect_refusals_total", kind="KeyUnheldNoSpawnConfig") == 1


def test_what_a_clock_ended_is_counted_by_reason(sample, spawn, make_ready, supervisor, reactor):
    make_ready(spawn("a", max_idle_seconds=5)["backend_id"])

    reactor.advance(5)
    supervisor.reap()

    assert sample("plane_tx_reaps_total", reason="idle") == 1
    assert sample("plane_tx_ends_total", reason="idle") == 1


def test_the_phases_of_a_boot_are_timed(sample, spawn, make_ready, engine, reactor):
    backend = spawn("a")["backend_id"]
    reactor.advance(3)
    engine.creating(backend)
    reactor.advance(0.2)
    make_ready(backend)

    assert sample("plane_tx_boot_seconds_sum", phase="pull") == 3
    assert sample("plane_tx_boot_seconds_bucket", phase="pull", le="2.5") == 0
    assert sample("plane_tx_boot_seconds_bucket", phase="pull", le="5.0") == 1
    assert sample("plane_tx_boot_seconds_count", phase="ready") == 1
    assert sample("plane_tx_whole_boot_seconds_sum") == pytest.approx(3.2)


def test_traffic_is_counted_while_it_goes_on_and_after(sample, spawn, make_ready, supervisor):
    backend = spawn("a")["backend_id"]
    make_ready(backend)
    session = supervisor.get(backend)
    for ended in (True, False):
        use = supervisor.begin_use(session, UseKind.WEBSOCKET, Visit("::1"))
        use.request()
        use.from_client(10, 1, 1.0)
        use.to_client(5, 2, 1.0)
        if ended:
            supervisor.end_use(session, use)

    assert sample("plane_tx_requests_total") == 2
    assert sample("plane_tx_bytes_total", direction="from_clients") == 20
    assert sample("plane_tx_messages_total", direction="to_clients") == 4
    assert sample("plane_tx_uses", kind="websocket") == 1
    assert sample("plane_tx_uses", kind="hold") == 0


def test_open_connections_and_upstream_errors_are_told(sample, supervisor):
    supervisor.measures.connections["clients"] = lambda: 3
    supervisor.measures.upstream_errors += 1
    supervisor.measures.access_log_lost += 2

    assert sample("plane_tx_connections", side="clients") == 3
    assert sample("plane_tx_upstream_errors_total") == 1
    assert sample("plane_tx_access_log_lost_total") == 2


def test_a_lost_engine_and_a_drain_show(sample, engine, ask):
    before = (sample("plane_tx_engine_up"), sample("plane_tx_draining"))

    engine.lose("it is away")
    ask("POST", "/ctrl/drain")

    assert before == (1, 0)
    assert (sample("plane_tx_engine_up"), sample("plane_tx_draining")) == (0, 1)
