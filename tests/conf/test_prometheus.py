"""What Prometheus and Grafana are told to look at is there, and alerts say it when they should."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import attrs
import pytest
import yaml

from plane_tx.core import errors
from plane_tx.core.model import Reason, Status
from tests.conf.fronts import running
from tests.conf.served import CONF, PROCESSES, Served, stopped_at_the_end, with_places
from tests.live import ask, free_ports, until

ALERTS = CONF / "prometheus" / "alerts.yml"
SCRAPE = CONF / "prometheus" / "prometheus.yml"
DASHBOARD = CONF / "grafana" / "plane_tx.json"

SECRET = "a-secret-of-a-test"
KEY = {"Authorization": f"Bearer {SECRET}"}

pytestmark = pytest.mark.conf


@attrs.frozen
class Case:
    """Series, minute by minute, of which an alert says nothing at first, and then does."""

    series: dict[str, str]
    quiet: str
    fires: str
    value: str = ""
    more_labels: dict[str, str] = attrs.field(factory=dict)


def buckets(name: str, **cumulative: str) -> dict[str, str]:
    """Series of a histogram, by upper bound."""
    bounds = {bound.removeprefix("le").replace("_", "."): how for bound, how in cumulative.items()}
    return {f'{name}_bucket{{le="{bound}"}}': how for bound, how in bounds.items()}


CASES = {
    "PlaneTxDown": Case(
        {'up{job="plane_tx"}': "1+0x5 0+0x5"}, "6m", "7m", more_labels={"job": "plane_tx"}
    ),
    "PlaneTxEngineDown": Case({"plane_tx_engine_up": "1+0x5 0+0x5"}, "6m", "7m"),
    "PlaneTxSpawnsFail": Case(
        {
            'plane_tx_spawns_total{outcome="ready"}': "0+8x60",
            'plane_tx_spawns_total{outcome="external"}': "0+8x60",
            'plane_tx_spawns_total{outcome="failed"}': "0+0x20 0+8x40",
        },
        "20m", "50m", "33.33%",
    ),
    "PlaneTxBootsSlow": Case(
        buckets(
            "plane_tx_whole_boot_seconds",
            le60="0+10x30 300+0x60", le300="0+10x90", **{"le+Inf": "0+10x90"},
        ),
        "30m", "85m",
    ),
    "PlaneTxAtCapacity": Case(
        {'plane_tx_connect_refusals_total{kind="AtCapacity"}': "0+0x20 1+1x10"}, "20m", "25m"
    ),
    "PlaneTxSessionsFailRequests": Case(
        {
            "plane_tx_requests_total": "0+100x60",
            "plane_tx_upstream_errors_total": "0+0x20 0+10x40",
        },
        "20m", "50m", "10%",
    ),
    "PlaneTxReactorLate": Case(
        buckets(
            "plane_tx_reactor_lag_seconds",
            le0_1="0+10x10 100+0x30", le0_25="0+10x40", **{"le+Inf": "0+10x40"},
        ),
        "10m", "35m",
    ),
    "PlaneTxDraining": Case({"plane_tx_draining": "0+0x10 1+0x80"}, "70m", "71m"),
    "PlaneTxAccessLogLost": Case(
        {"plane_tx_access_log_lost_total": "0+0x20 1+1x10"}, "20m", "25m"
    ),
}  # fmt: skip


def rules() -> list[dict[str, Any]]:
    (group,) = yaml.safe_load(ALERTS.read_text())["groups"]
    found: list[dict[str, Any]] = group["rules"]
    return found


def dashboard_expressions() -> list[str]:
    """Every expression of the dashboard, with its variables as Grafana would put them in."""
    panels = json.loads(DASHBOARD.read_text())["panels"]
    found = [target["expr"] for panel in panels for target in panel["targets"]]
    return [each.replace("$__rate_interval", "1m").replace("$instance", ".*") for each in found]


def expressions() -> list[str]:
    return [rule["expr"] for rule in rules()] + dashboard_expressions()


def promtool(*arguments: object) -> str:
    done = subprocess.run(
        ["promtool", *map(str, arguments)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def series_at_box(series: str) -> str:
    name, _, labels = series.partition("{")
    return f'{name}{{instance="box",{labels or "}"}'


def unit_test(rule: dict[str, Any], case: Case) -> dict[str, Any]:
    """What promtool is to see: nothing at first, then the alert with all it says."""
    places = {"{{ $labels.instance }}": "box", "{{ $value | humanizePercentage }}": case.value}
    annotations = dict(rule["annotations"])
    for shown, said in places.items():
        annotations["summary"] = annotations["summary"].replace(shown, said)
    labels = {"instance": "box", **rule["labels"], **case.more_labels}
    alert = {"exp_labels": labels, "exp_annotations": annotations}
    name = rule["alert"]
    return {
        "interval": "1m",
        "input_series": [
            {"series": series_at_box(series), "values": values}
            for series, values in case.series.items()
        ],
        "alert_rule_test": [
            {"eval_time": case.quiet, "alertname": name, "exp_alerts": []},
            {"eval_time": case.fires, "alertname": name, "exp_alerts": [alert]},
        ],
    }


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A server with a key that may read, which runs one session."""
    control, proxy = free_ports(2)
    config = (
        f'[control]\nendpoint = "tcp:{control}"\n'
        f'api_keys = ["prometheus:read:{SECRET}", "test:admin:{SECRET}-2"]\n'
        f'[proxy]\nendpoint = "tcp:{proxy}"\n[engine]\n{PROCESSES}\n'
    )
    folder = tmp_path_factory.mktemp("measured")
    with stopped_at_the_end(Served(folder, config, (control, proxy))) as measured:
        measured.wait_until_ready()
        yield measured


@pytest.fixture(scope="module")
def metrics(server: Served) -> str:
    answer = ask("GET", f"{server.control}/metrics", headers=KEY)
    assert answer.status == 200
    return answer.body.decode()


def names_in(metrics: str) -> set[str]:
    """Every name that a query may have, of series that are not there yet too."""
    found = set()
    for name, kind in re.findall(r"^# TYPE (\S+) (\S+)$", metrics, re.MULTILINE):
        ends = ("_bucket", "_sum", "_count") if kind == "histogram" else ("",)
        found |= {name + end for end in ends}
    return found


def test_every_metric_that_is_named_is_there(metrics: str) -> None:
    named = set(re.findall(r"plane_tx_\w+", " ".join(expressions())))
    told = names_in(metrics)

    # And what is measured is shown, but for parts of histograms.
    assert named <= told, named - told
    assert told - named <= {"plane_tx_boot_seconds_bucket", "plane_tx_whole_boot_seconds_sum",
                            "plane_tx_whole_boot_seconds_count", "plane_tx_reactor_lag_seconds_sum",
                            "plane_tx_reactor_lag_seconds_count"}  # fmt: skip


def test_every_value_of_a_label_that_is_named_can_be(metrics: str) -> None:
    possible = {
        "job": {"plane_tx"},
        "instance": {".*"},
        "status": set(Status),
        "outcome": {*Reason, "ready"},
        "kind": {each.kind for each in vars(errors).values() if hasattr(each, "kind")},
        "side": set(re.findall(r'plane_tx_connections{side="(\w+)"}', metrics)),
    }

    for label, values in re.findall(r'(\w+)[!=]=?~?"([^"]*)"', " ".join(expressions())):
        assert set(values.split("|")) <= possible[label], (label, values)


def test_prometheus_understands_every_expression(tmp_path: Path) -> None:
    recorded = [
        {"record": f"dashboard:{number}", "expr": each}
        for number, each in enumerate(dashboard_expressions())
    ]
    groups = {"groups": [{"name": "dashboard", "rules": recorded}]}
    (tmp_path / "dashboard.yml").write_text(yaml.safe_dump(groups))

    told = promtool("check", "rules", ALERTS, tmp_path / "dashboard.yml")

    assert f"{len(rules())} rules found" in told
    assert f"{len(recorded)} rules found" in told


def test_every_alert_says_what_to_do() -> None:
    for rule in rules():
        assert rule["annotations"]["runbook"].endswith("."), rule["alert"]
        assert rule["labels"]["severity"] in {"critical", "warning"}


@pytest.mark.parametrize("rule", rules(), ids=lambda rule: rule["alert"])
def test_an_alert_is_silent_until_it_should_not_be(tmp_path: Path, rule: dict[str, Any]) -> None:
    tests = {"rule_files": [str(ALERTS)], "tests": [unit_test(rule, CASES[rule["alert"]])]}
    (tmp_path / "tests.yml").write_text(yaml.safe_dump(tests))

    told = promtool("test", "rules", tmp_path / "tests.yml")

    assert "SUCCESS" in told


def test_a_prometheus_reads_the_server_with_its_key(server: Served, tmp_path: Path) -> None:
    (port,) = free_ports(1)
    places = {
        "127.0.0.1:8080": f"127.0.0.1:{server.control_port}",
        "/etc/prometheus/plane_tx.key": f"{tmp_path}/key",
        "scrape_interval: 15s": "scrape_interval: 1s",
    }
    (tmp_path / "prometheus.yml").write_text(with_places(SCRAPE.read_text(), places))
    (tmp_path / "alerts.yml").write_text(ALERTS.read_text())
    (tmp_path / "key").write_text(SECRET)
    options = {"config.file": "prometheus.yml", "storage.tsdb.path": "data"}
    command = ["prometheus", *(f"--{name}={tmp_path}/{what}" for name, what in options.items())]
    api = f"http://127.0.0.1:{port}/api/v1"

    def query(expression: str) -> Any:
        try:
            answer = ask("GET", f"{api}/query?{urlencode({'query': expression})}")
        except OSError:
            return []
        return answer.json["data"]["result"] if answer.status == 200 else []

    with running([*command, f"--web.listen-address=127.0.0.1:{port}"], tmp_path):
        until(lambda: query('up{job="plane_tx"} == 1'))
        shown = [each for each in dashboard_expressions() if query(each)]
        loaded = ask("GET", f"{api}/rules").json["data"]["groups"][0]["rules"]

    gauges = [each for each in dashboard_expressions() if "rate(" not in each]
    assert set(gauges) <= set(shown)
    assert [each["name"] for each in loaded] == [rule["alert"] for rule in rules()]
