"""What the door counts: requests by address and status, time, refusals by reason. Rows are counted by the fleet."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)


class Counters:
    """Counters of one service: a registry of their own, so that two services in one process do not share them. Labels
    are addresses as they are declared, never as they were asked.
    """

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self._requests = Counter(
            "polydetr_http_requests", "Requests.", ("route", "method", "status"), registry=self._registry
        )
        self._seconds = Histogram(
            "polydetr_http_seconds", "From the head of a request to the end of its answer.", ("route",),
            buckets=_SECONDS, registry=self._registry,
        )  # fmt: skip
        self._refused = Counter(
            "polydetr_http_refused", "Requests that were not answered, by reason.", ("reason",), registry=self._registry
        )

    def request(self, *, route: str, method: str, status: int, seconds: float) -> None:
        known = method if method in ("GET", "HEAD", "POST", "DELETE", "OPTIONS", "PUT", "PATCH") else "other"
        self._requests.labels(route or "none", known, str(status)).inc()
        self._seconds.labels(route or "none").observe(seconds)

    def refused(self, reason: str) -> None:
        self._refused.labels(reason).inc()

    def text(self) -> str:
        """As Prometheus reads it."""
        return generate_latest(self._registry).decode()
