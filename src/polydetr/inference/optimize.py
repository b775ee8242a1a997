"""Which way to compute a model is the fastest on this machine: measured on labeled rows, in turn, by medians.

A way counts only where it answers as well as float32: see ``inference.proof``.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast, get_args

from polydetr.core.runner import SizedRunner
from polydetr.engine.engine import Engine
from polydetr.errors import ConfigError
from polydetr.inference.kept_rows import KeptRows
from polydetr.inference.load import load_engine, runner_for
from polydetr.inference.optimized import Way, write_way
from polydetr.inference.proof import MAX_DROP, Measured, Proof, compared, measured_by, standard_by

ROUNDS = 5
WORTH = 1.05
"""A way that is less faster than the default one is not worth another number format."""
SECONDS = 0.5
"""Of one pass over the rows, about: fewer of them are taken where they take longer."""
BATCHES = (256, 512, 1024, 2048)
"""Tokens per batch that are tried, with the best of the rest."""
Precision = Literal["fp32", "bf16", "int8"]
Progress = Callable[[str], None]


@dataclass(frozen=True)
class Timing:
    """A way, measured. times: its speed over that of the default, the median over the rounds; proof: against float32,
    None where there is no float32 in the folder.
    """

    way: Way
    rows_per_second: float
    times: float
    metrics: Mapping[str, float]
    proof: Proof | None = None

    @property
    def is_good(self) -> bool:
        """Whether it answers as well as float32."""
        return self.proof is None or self.proof.worst.points <= MAX_DROP

    def to_dict(self) -> dict[str, Any]:
        return {
            **self.way.model_dump(), "rows_per_second": round(self.rows_per_second, 2), "times": round(self.times, 3),
            "metrics": dict(self.metrics), "proof": None if self.proof is None else self.proof.to_dict(),
        }  # fmt: skip


@dataclass(frozen=True)
class Optimized:
    """What was found. default: the way that ``load`` takes without it."""

    folder: Path
    default: Way
    chosen: Way
    timings: tuple[Timing, ...]
    rows: int

    def to_dict(self) -> dict[str, Any]:
        return {
            "folder": str(self.folder), "rows": self.rows, "default": self.default.model_dump(),
            "chosen": self.chosen.model_dump(), "ways": [timing.to_dict() for timing in self.timings],
        }  # fmt: skip


@dataclass(frozen=True)
class _Candidate:
    way: Way
    engine: Engine


def optimize(
    folder: Path,
    default: Engine,
    manifest: Mapping[str, Any],
    rows: KeptRows,
    *,
    progress: Progress = lambda line: None,
) -> Optimized:
    """Measures the ways to compute the model of ``folder`` on these rows, and writes the choice into the folder.
    default, manifest: what ``load_engine`` gives where it obeys no earlier choice.

    Raises:
        ConfigError: see ``proof.standard_by``. ModelFolderError: see ``load_engine``. SaveError: it cannot be written.
    """
    runner = cast(Literal["torch", "onnx"], runner_for(manifest, "auto"))
    engines = _engines(folder, runner, default)
    usual = Way(
        runner=runner, precision=cast(Precision, _sized(default).precision), threads=_sized(default).threads,
        batch_tokens=_sized(default).batch_tokens,
    )  # fmt: skip
    answers: dict[str, Measured] = {}
    for precision, engine in engines.items():
        progress(f"answering {len(rows)} rows in {precision}")
        answers[precision] = (measured_by if answers else standard_by)(engine, rows)  # float32 first, where that is
    few = _few(engines[usual.precision], rows)
    threads = _thread_counts(usual.threads)
    ways = [usual.model_copy(update={"precision": name, "threads": count}) for name in engines for count in threads]
    first = _timed([_candidate(way, engines) for way in ways], few, usual, answers, progress=progress)
    best = _best(first, usual)
    sizes = [best.way.model_copy(update={"batch_tokens": size}) for size in BATCHES if size != best.way.batch_tokens]
    again = [_candidate(way, engines) for way in dict.fromkeys([usual, best.way, *sizes])]
    second = _timed(again, few, usual, answers, progress=progress)
    timings = {timing.way: timing for timing in (*first, *second)}
    chosen = _best(second, usual).way
    every = tuple(sorted(timings.values(), key=lambda timing: -timing.times))
    measured = [timing.to_dict() for timing in every]
    write_way(folder, manifest, chosen, measured, computes_on=_sized(default).computes_on)
    return Optimized(folder, usual, chosen, every, len(rows))


def _engines(folder: Path, runner: str, default: Engine) -> dict[str, Engine]:
    """Precision → an engine that computes in it, for all that the folder and this machine have."""
    engines: dict[str, Engine] = {}
    for precision in get_args(Precision):
        if precision == _sized(default).precision:
            engines[precision] = default
            continue
        try:
            engines[precision], _ = load_engine(folder, runner=runner, precision=precision, obeys=False)
        except ConfigError:  # the graphs have another one, or the machine lacks it
            continue
        if _sized(engines[precision]).precision != precision:
            del engines[precision]
    return engines


def _sized(engine: Engine) -> SizedRunner:
    assert isinstance(engine.runner, SizedRunner)
    return engine.runner


def _thread_counts(most: int) -> list[int]:
    """1, 2, 4, … and as many as it has by default."""
    return sorted({1, most, *(2**i for i in range(1, most.bit_length()) if 2**i < most)})


def _few(engine: Engine, rows: KeptRows) -> KeptRows:
    """As many of the rows as are answered in ``SECONDS``, at equal distances."""
    list(engine.answered(rows.documents[:8]))  # what the first run pays for
    begun = time.perf_counter()
    list(engine.answered(rows.documents))
    taken = time.perf_counter() - begun
    step = max(1, int(taken / SECONDS + 0.5))
    return KeptRows(rows.documents[::step], rows.positives)


def _candidate(way: Way, engines: Mapping[str, Engine]) -> _Candidate:
    engine = engines[way.precision]
    sized = _sized(engine).sized(threads=way.threads, batch_tokens=way.batch_tokens)
    return _Candidate(way, engine.with_runner(sized))


def _timed(
    candidates: Sequence[_Candidate],
    rows: KeptRows,
    usual: Way,
    answers: Mapping[str, Measured],
    *,
    progress: Progress,
) -> list[Timing]:
    """Each way once per round, in turn, so that what else the machine does slows all of them."""
    seconds: dict[Way, list[float]] = {candidate.way: [] for candidate in candidates}
    for number in range(ROUNDS + 1):
        progress(f"measuring {len(candidates)} way{'s' * (len(candidates) != 1)}, round {number + 1} of {ROUNDS + 1}")
        for candidate in candidates:
            begun = time.perf_counter()
            for _ in candidate.engine.answered(rows.documents):
                pass
            if number:  # the first run of a way pays for what it keeps
                seconds[candidate.way].append(time.perf_counter() - begun)
    compare = seconds.get(usual) or next(iter(seconds.values()))
    return [
        Timing(
            c.way,
            len(rows) / statistics.median(seconds[c.way]),
            statistics.median(a / b for a, b in zip(compare, seconds[c.way], strict=True)),
            _first_metrics(c.engine, answers[c.way.precision]),
            _proof(c, answers),
        )
        for c in candidates
    ]


def _first_metrics(engine: Engine, measured: Measured) -> dict[str, float]:
    return {t: float(e.metrics[engine.tasks[t].primary_metric]) for t, e in measured.evaluations.items()}


def _proof(candidate: _Candidate, answers: Mapping[str, Measured]) -> Proof | None:
    if "fp32" not in answers:
        return None
    return compared(candidate.engine, answers["fp32"], answers[candidate.way.precision])


def _best(timings: Sequence[Timing], usual: Way) -> Timing:
    """The fastest that answers as well as float32; the default one where nothing is worth more."""
    good = [timing for timing in timings if timing.is_good]
    default = next((timing for timing in good if timing.way == usual), None)
    best = max(good, key=lambda timing: timing.times)
    return best if default is None or best.times >= WORTH else default
