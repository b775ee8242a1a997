"""Records of a run for TensorBoard, Weights & Biases and MLflow, of which none is imported here.

Each tool works in a process of its own behind a bounded queue (``trackers.guard``): one that fails, hangs or finds the
disk full is switched off and told, once; the training neither stops nor waits.
"""

from __future__ import annotations

import base64
import math
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import datetime
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from polydetr.config.sections import Config
from polydetr.core.files import save_text
from polydetr.core.installed import pip_install
from polydetr.errors import ConfigError, Interrupted, SaveError
from polydetr.modalities.base import Notify
from polydetr.training.callbacks import Display, Pruned, StepInfo
from polydetr.training.checkpoint import LAST, checkpoint_of
from polydetr.training.devices import is_first_process
from polydetr.training.places import tracking_folder
from polydetr.training.trackers.base import Status, TrackedRun
from polydetr.training.trackers.guard import Guard

if TYPE_CHECKING:
    from polydetr.training.tracked import Record

EVERY_SECONDS = 1.0
"""The least time between two recorded steps; evaluations are always recorded."""
CLOSE_SECONDS = 5.0
"""How long the end waits for all trackers together; what they have not written by then, they go on to write."""
LEAST_SECONDS = 0.5
"""How long it waits where a time limit is over."""
MOST_NOTES = 500

_HOME = "polydetr.training.trackers"
TRACKERS = {
    "tensorboard": f"{_HOME}.tensorboard:TensorBoard",
    "wandb": f"{_HOME}.wandb:WeightsAndBiases",
    "mlflow": f"{_HOME}.mlflow:MLflow",
}
"""Kind → where its tracker is."""
_NEEDS = {"tensorboard": ("tensorboard",), "wandb": ("wandb",), "mlflow": ("mlflow", "sqlalchemy", "alembic")}


class Trackers(Display):
    """All trackers of one run, as a display; none by default. ``notify`` is told what is switched off, and why."""

    def __init__(self, guards: Sequence[Guard] = (), *, notify: Notify = lambda message: None) -> None:
        self._guards, self._notify = guards, notify
        self._told: set[str] = set()
        self._notes: list[str] = []
        self._last, self._step, self._closed = float("-inf"), 0, False
        self.over_at = float("inf")  # by time.monotonic, of a run under a time limit

    def note(self, message: str) -> None:
        """Kept, to be recorded at the end as the text "messages"."""
        if self._guards and len(self._notes) < MOST_NOTES:
            self._notes.append(message)

    def step(self, info: StepInfo) -> None:
        """Loss, learning rate and speed, at most once in ``EVERY_SECONDS``."""
        self._step = info.step
        if self._guards and time.monotonic() - self._last >= EVERY_SECONDS:
            self._last = time.monotonic()
            values = {"loss": info.loss, "lr": info.learning_rate, "tokens_per_second": info.tokens_per_second}
            self.scalars({f"train/{name}": value for name, value in values.items()}, step=info.step)

    def evaluation(self, entry: Mapping[str, Any]) -> None:
        """Losses and every target's metrics."""
        self._step = entry["step"]
        values = {"train/mean_loss": entry["train_loss"], "valid/loss": entry["valid_loss"]}
        for target, metrics in entry["metrics"].items():
            values |= {f"valid/{target}/{name}": value for name, value in metrics.items()}
        self.scalars(values, step=entry["step"])

    def scalars(self, values: Mapping[str, float], *, step: int) -> None:
        numbers = {name: float(v) for name, v in values.items() if isinstance(v, int | float) and math.isfinite(v)}
        self._put("scalars", values=numbers, step=step)

    def records(self, records: Iterator[Record]) -> None:
        """What a run leaves, at its last step. Nothing is drawn or read for trackers that are off."""
        if not self.is_on:
            return
        try:
            for record in records:
                self._put(record.do, **record.given, step=self._step)
        except Exception as error:  # the model is saved: nothing that is only to be looked at may end the run
            self._notify(f"track: not all was recorded ({type(error).__name__}: {error})")

    @property
    def is_on(self) -> bool:
        return any(not guard.failure for guard in self._guards)

    def close(self, status: Status = "finished") -> None:
        """Waits ``CLOSE_SECONDS`` at most, of a time limit only what is left; the second time it does nothing."""
        if self._closed:
            return
        self._closed = True
        if self._notes:
            self._put("text", name="messages", text="\n".join(self._notes), step=self._step)
        for guard in self._guards:
            guard.finish(status)
        now = time.monotonic()
        until = min(now + CLOSE_SECONDS, max(now + LEAST_SECONDS, self.over_at))
        with suppress(KeyboardInterrupt):  # the run has ended: what is not waited for is written nevertheless
            for guard in self._guards:
                guard.wait(until)
        self._tell_failures()
        for guard in self._guards:
            if guard.dropped:
                self._notify(f"track: {guard.kind} was too slow for {guard.dropped} records, which it lacks")
        for guard in self._guards:
            if guard.is_writing and not guard.failure:
                self._notify(f"track: {guard.kind} is still writing, which nothing here waits for")

    def _put(self, do: str, **given: Any) -> None:
        for guard in self._guards:
            guard.put(do, **given)
        self._tell_failures()

    def _tell_failures(self) -> None:
        for guard in self._guards:
            if guard.failure and guard.kind not in self._told:
                self._told.add(guard.kind)
                self._notify(f"track: {guard.kind} is switched off, the run goes on without it: {guard.failure}")


class Both(Display):
    """Two displays as one, which closes neither."""

    def __init__(self, first: Display, second: Display) -> None:
        self._displays = (first, second)

    def note(self, message: str) -> None:
        for display in self._displays:
            display.note(message)

    def step(self, info: StepInfo) -> None:
        for display in self._displays:
            display.step(info)

    def evaluation(self, entry: Mapping[str, Any]) -> None:
        for display in self._displays:
            display.evaluation(entry)


def make_trackers(
    kinds: Sequence[str],
    folder: Path,
    *,
    config: Mapping[str, Any],
    name: str,
    group: str | None = None,
    resumed: bool = False,
    notify: Notify = lambda message: None,
) -> Trackers:
    """Starts a tracker of each kind, for one run; they open while it prepares.

    kinds: of ``TRACKERS``. folder, config, name, group, resumed: see ``TrackedRun``; no two runs in ``folder`` and
    ``group`` share a name. notify: is told what is switched off, and why.

    Raises:
        ConfigError: the library that a kind needs is not installed.
    """
    for kind in kinds:
        check_installed(kind)
    run = TrackedRun(str(folder), name, config, group, resumed)
    return Trackers([Guard(kind, TRACKERS[kind], run) for kind in dict.fromkeys(kinds)], notify=notify)


@contextmanager
def tracked(
    config: Config, out: Path | None, *, display: Display, resume: bool = False, name: str | None = None,
    group: str | None = None,
) -> Iterator[Trackers]:  # fmt: skip
    """The trackers that ``config.track`` asks for, closed however the block ends; in the first process alone.

    out: where the model is to lie, or a study its trials, of which each has a name and their study as its group.
    display: is told what is switched off.
    """
    if not config.track or not is_first_process():
        yield Trackers()
        return
    folder = tracking_folder(out)
    name, resumed = (name, False) if name else _name(folder, out, resume=resume)
    settings = config.model_dump(mode="json")
    trackers = make_trackers(
        config.track, folder, config=settings, name=name, group=group, resumed=resumed, notify=display.note
    )
    if config.time_limit is not None:
        trackers.over_at = time.monotonic() + config.time_limit
    if group is None:  # a study says where it is
        display.note(f"tracked by {', '.join(config.track)} as {name!r} in {str(folder)!r}")
    status: Status = "failed"
    try:
        yield trackers
        status = "finished"
    except Pruned:
        status = "finished"
        raise
    except (KeyboardInterrupt, Interrupted):
        status = "interrupted"
        raise
    finally:
        trackers.close(status)


def _name(folder: Path, out: Path | None, *, resume: bool) -> tuple[str, bool]:
    """The name of a run, and whether it goes on with its records: a resumed one does, whose checkpoint is there."""
    latest = folder / "latest" / f"{out.name}.txt" if out is not None else None
    if resume and latest is not None and out is not None and (checkpoint_of(out) / LAST).exists():
        with suppress(OSError, UnicodeDecodeError):
            if known := latest.read_text(encoding="utf-8").strip():
                return known, True
    now = datetime.now()
    name = f"{out.name if out is not None else 'model'}-{now:%Y%m%d-%H%M%S}-{now.microsecond // 1000:03d}"
    if latest is not None:
        with suppress(SaveError):
            save_text(latest, name + "\n")
    return name, False


def check_installed(kind: str) -> None:
    """Without importing it.

    Raises:
        ConfigError: what ``kind`` needs is not installed.
    """
    missing = [name for name in _NEEDS[kind] if not _is_installed(name)]
    if missing:
        raise ConfigError(
            f"track = {kind!r}: {' and '.join(missing)} {'is' if len(missing) == 1 else 'are'} not installed.",
            hint=f"{pip_install(kind)}, or leave it out of track.",
        )


def _is_installed(name: str) -> bool:
    with suppress(ValueError):  # it was put there without a specification
        spec = find_spec(name)
        return spec is not None and spec.origin is not None  # a folder of that name is none: wandb makes some
    return False


def encoded(png: bytes) -> str:
    return base64.b64encode(png).decode()
