"""GET /metrics: what the server counts, in Prometheus' text format."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
    Metric,
)
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, generate_latest
from prometheus_client.registry import Collector

from plane_tx import __version__
from plane_tx.core.measures import Histogram
from plane_tx.core.model import Status
from plane_tx.core.use import UseKind
from plane_tx.supervisor import Supervisor

CONTENT_TYPE = CONTENT_TYPE_PLAIN_0_0_4


class SupervisorCollector(Collector):
    """Reads every number where it is kept; nothing is counted a second time for Prometheus."""

    def __init__(self, supervisor: Supervisor) -> None:
        self._supervisor = supervisor

    def collect(self) -> Iterator[Metric]:
        """Every metric as it is now."""
        yield InfoMetricFamily("plane_tx", "The server itself.", {"version": __version__})
        yield from self._sessions()
        yield from self._boots()
        yield from self._proxy()

    def exposition(self) -> bytes:
        """Every metric as it is now, in `CONTENT_TYPE`."""
        return generate_latest(self)

    def _sessions(self) -> Iterator[Metric]:
        supervisor, measures = self._supervisor, self._supervisor.measures
        statuses = supervisor.registry.statuses
        yield _gauges(
            "plane_tx_sessions",
            "Sessions by status; ended ones until they are forgotten.",
            "status",
            {status.value: statuses[status] for status in Status},
        )
        yield _counters(
            "plane_tx_spawns",
            "Spawns by outcome: ready, or why the session ended before it was.",
            "outcome",
            measures.spawns,
        )
        yield CounterMetricFamily(
            "plane_tx_joins", "Connects that joined a living session.", measures.joins
        )
        yield _counters(
            "plane_tx_connect_refusals", "Connects refused, by kind of error.", "kind",
            measures.refusals,
        )  # fmt: skip
        yield _counters(
            "plane_tx_reaps", "Sessions that a clock ended, by reason.", "reason", measures.reaps
        )
        yield _counters("plane_tx_ends", "Sessions that ended, by reason.", "reason", measures.ends)
        yield GaugeMetricFamily(
            "plane_tx_draining", "Whether new sessions are refused.", supervisor.draining
        )
        yield GaugeMetricFamily(
            "plane_tx_engine_up", "Whether the engine answers.", supervisor.engine_lost is None
        )

    def _boots(self) -> Iterator[Metric]:
        measures = self._supervisor.measures
        boots = HistogramMetricFamily(
            "plane_tx_boot_seconds", "How long each phase of a boot took.", labels=["phase"]
        )
        for phase, histogram in measures.boot.items():
            boots.add_metric([phase], _buckets(histogram), histogram.total)
        yield boots
        yield _histogram(
            "plane_tx_whole_boot_seconds",
            "How long boots took, from the request to the first answer.",
            measures.whole_boot,
        )
        yield _histogram(
            "plane_tx_reactor_lag_seconds",
            "How late the reactor made a call that was due.",
            measures.reactor_lag,
        )

    def _proxy(self) -> Iterator[Metric]:
        registry, measures = self._supervisor.registry, self._supervisor.measures
        traffic = registry.traffic
        yield CounterMetricFamily(
            "plane_tx_requests", "Requests given to sessions.", traffic.requests
        )
        yield _both_ways(
            "plane_tx_bytes", "Bytes of bodies and frames.",
            traffic.bytes_from_clients, traffic.bytes_to_clients,
        )  # fmt: skip
        yield _both_ways(
            "plane_tx_messages", "WebSocket messages.",
            traffic.messages_from_clients, traffic.messages_to_clients,
        )  # fmt: skip
        yield _gauges(
            "plane_tx_uses",
            "How sessions are used now; a hold is a request that waits for a boot.",
            "kind",
            {kind.value: registry.uses[kind] for kind in UseKind},
        )
        yield _gauges(
            "plane_tx_connections", "Open connections of the proxy.", "side",
            {side: count() for side, count in measures.connections.items()},
        )  # fmt: skip
        yield CounterMetricFamily(
            "plane_tx_upstream_errors",
            "Requests and WebSockets that a session which had not ended failed.",
            measures.upstream_errors,
        )
        yield CounterMetricFamily(
            "plane_tx_access_log_lost",
            "Requests that the access log could not take.",
            measures.access_log_lost,
        )


def _gauges(name: str, told: str, label: str, values: Mapping[str, float]) -> Metric:
    metric = GaugeMetricFamily(name, told, labels=[label])
    for value, number in values.items():
        metric.add_metric([value], number)
    return metric


def _counters(name: str, told: str, label: str, values: Mapping[str, float]) -> Metric:
    metric = CounterMetricFamily(name, told, labels=[label])
    for value, number in values.items():
        metric.add_metric([value], number)
    return metric


def _both_ways(name: str, told: str, from_clients: int, to_clients: int) -> Metric:
    values = {"from_clients": from_clients, "to_clients": to_clients}
    return _counters(name, told, "direction", values)


def _histogram(name: str, told: str, histogram: Histogram) -> Metric:
    return HistogramMetricFamily(name, told, _buckets(histogram), histogram.total)


def _buckets(histogram: Histogram) -> list[tuple[str, float]]:
    bounds = [*(str(bound) for bound in histogram.bounds), "+Inf"]
    return list(zip(bounds, _running(histogram.counts), strict=True))


def _running(counts: Iterable[int]) -> Iterator[float]:
    total = 0
    for count in counts:
        total += count
        yield total
