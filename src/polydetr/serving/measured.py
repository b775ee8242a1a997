"""What a service counts and times, in a registry of its own, as Prometheus reads it.

Every label has few values: models and columns are those that are served, all others are lists of this file. No label
and no value tells anything of a caller's text.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

if TYPE_CHECKING:
    from polydetr.serving.waiting import Request, Sending

Status = Literal["answered", "busy", "late", "unavailable", "wrong", "left"]
"""What becomes of a request; "wrong": its options or columns; "left": who asked went away."""
_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
_COUNTS = tuple(2.0**i for i in range(14))
_SHARES = tuple(i / 10 for i in range(1, 11))


class Measured:
    """One fleet's figures."""

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()

        def counter(name: str, text: str, *labels: str) -> Counter:
            return Counter(f"polydetr_{name}", text, labels, registry=registry)

        def gauge(name: str, text: str, *labels: str) -> Gauge:
            return Gauge(f"polydetr_{name}", text, labels, registry=registry)

        def histogram(name: str, text: str, buckets: tuple[float, ...], *labels: str) -> Histogram:
            return Histogram(f"polydetr_{name}", text, labels, registry=registry, buckets=buckets)

        self.requests = counter("requests", "Requests by what became of them.", "model", "status")
        self.rows = counter("rows", "Rows that were answered or rejected.", "model")
        self.rejected = counter(
            "rows_rejected", "Rows with an error, by the kind of the column that it is in, or row.", "model", "reason"
        )
        self.seconds = histogram("request_seconds", "From accepted to answered.", _SECONDS, "model")
        self.stages = histogram(
            "stage_seconds",
            "Seconds of a parcel of at most 32 rows of one request: waiting, and its share of the turns it was in.",
            _SECONDS,
            "stage",
        )
        self.turn_rows = histogram("turn_rows", "Rows that were computed together.", _COUNTS)
        self.turn_tokens = histogram("turn_tokens", "Tokens that were computed together.", _COUNTS)
        self.confidence = histogram("confidence", "Probability of the answers.", _SHARES, "model", "target")
        self.waiting_rows = gauge("waiting_rows", "Rows that are accepted and not answered.")
        self.waiting_bytes = gauge("waiting_bytes", "Bytes of the requests that are accepted and not answered.")
        self.processes = gauge("processes_ready", "Model processes that answer.")
        self.ended = counter("processes_ended", "Model processes that ended by themselves.")
        results = "Answers of a shadow: same, different, or skipped for want of time."
        self.shadow = counter("shadow_rows", results, "model", "target", "result")
        self.drift = gauge(
            "drift_psi",
            "Population stability index of an input column: rows of the last windows against the training rows.",
            "model",
            "column",
        )
        self.drift_rows = gauge("drift_rows", "Rows that drift_psi rests on.", "model", "column")
        self.missing = gauge("missing_share", "Share of the last rows in which a column is missing.", "model", "column")

    def text(self) -> str:
        return generate_latest(self.registry).decode()

    def process_ended(self) -> None:
        self.ended.inc()

    def turn(self, rows: int, tokens: int) -> None:
        self.turn_rows.observe(rows)
        self.turn_tokens.observe(tokens)

    def forget_columns(self) -> None:
        """What was told of columns is not true of the models that answer now."""
        for one in (self.drift, self.missing, self.drift_rows):
            one.clear()

    def columns(self, model: str, told: Mapping[str, tuple[float, float, int]]) -> None:
        """told: see ``drift.Windows``."""
        for column, (psi, missing, rows) in told.items():
            self.drift.labels(model, column).set(psi)
            self.missing.labels(model, column).set(missing)
            self.drift_rows.labels(model, column).set(rows)

    def compared(self, model: str, targets: Mapping[str, Mapping[str, int]], *, skipped: int) -> None:
        """The answers of a shadow: of each target, how many are the same and how many different."""
        for target, counts in targets.items():
            for result, count in counts.items():
                self.shadow.labels(model, target, result).inc(count)
        if skipped:
            self.shadow.labels(model, "", "skipped").inc(skipped)

    def request(self, model: str, status: Status, seconds: float) -> None:
        self.requests.labels(model, status).inc()
        if status == "answered":
            self.seconds.labels(model).observe(seconds)

    def unread(self, model: str, rows: int) -> None:
        """Rows that never came to a model."""
        if rows:
            self.rows.labels(model).inc(rows)
            self.rejected.labels(model, "row").inc(rows)

    def parcel(self, request: Request, sending: Sending, message: Mapping[str, Any], *, seconds: float) -> None:
        """seconds: since the parcel was sent."""
        name, stages = request.version.name, message["seconds"]
        self.rows.labels(name).inc(len(sending.places))
        for reason, count in message["reasons"].items():
            self.rejected.labels(name, reason).inc(count)
        waited = sending.sent - request.accepted + max(0.0, seconds - sum(stages.values()))
        for stage, value in {"queue": waited, **stages}.items():
            self.stages.labels(stage).observe(value)
        for reply in message["replies"]:
            for target, probability in reply.get("probability", {}).items():
                self.confidence.labels(name, target).observe(probability)
