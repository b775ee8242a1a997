"""Where a run writes: the model folder, its checkpoint beside it; and that nothing there is replaced untold."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from itertools import count
from pathlib import Path
from typing import Any

from polydetr.core.files import file_names
from polydetr.errors import ModelFolderError, OutputError
from polydetr.inference.folder import LAST, MANIFEST, RUNS, checkpoint_of, read_manifest


def tracking_folder(out: Path | None) -> Path:
    """One for all runs whose models lie beside one another: the tools compare them."""
    return (out.parent if out else RUNS) / "tracking.runs"


def place_of_run(rows: str | None, *, resume: bool) -> Path:
    """runs/NAME-DATE, which is not there yet, for a run on the file ``rows``; to resume, the latest that was stopped.

    Raises:
        OutputError: none of the runs on that file was stopped.
    """
    if resume:
        stopped = [p for p in runs_on(rows, ".checkpoint") if (p / LAST).exists()]
        if not stopped:
            raise OutputError(
                f"no run on {rows!r} was stopped in {str(RUNS)!r}: there is nothing to resume.",
                hint="Name the model folder of the run, --out FOLDER, or leave out --resume.",
            )
        return max(stopped, key=lambda p: (p / LAST).stat().st_mtime).with_suffix("")
    dated = f"{_name(rows)}-{time.strftime('%Y%m%d-%H%M%S')}"
    names = (dated if i == 1 else f"{dated}-{i}" for i in count(1))
    return next(p for n in names if not os.path.lexists(p := RUNS / n))


def runs_on(rows: str | None, ending: str) -> list[Path]:
    """What runs on the file ``rows`` left in runs/ under their own names, runs/NAME-DATE, and this ending."""
    own = re.compile(rf"{re.escape(_name(rows))}-\d{{8}}-\d{{6}}(-\d+)?{re.escape(ending)}")
    return [path for path in RUNS.glob(f"*{ending}") if own.fullmatch(path.name)]


def _name(rows: str | None) -> str:
    stem = Path(rows).name.partition(".")[0] if rows else ""
    return next(iter(file_names([stem]).values())) or "model"


@contextmanager
def no_empty_runs() -> Iterator[None]:
    """Removes the folder of the runs again where the block left nothing in it."""
    try:
        yield
    finally:
        with suppress(OSError):
            RUNS.rmdir()


def check_told(out: Path, *, overwrite: bool, resume: bool) -> None:
    """What lies at ``out`` is replaced where the user says so, or where it belongs to the run that he resumes.

    Raises:
        OutputError: a model lies there, or the state of an interrupted run.
    """
    if overwrite:
        return
    stopped = (checkpoint_of(out) / LAST).exists()
    if stopped and not resume:
        raise OutputError(
            f"an interrupted run left its state in {str(checkpoint_of(out))!r}.",
            hint="Go on with the same call and --resume (resume=True), or begin anew: --overwrite (overwrite=True).",
        )
    if not stopped and (out / MANIFEST).exists():
        earlier = earlier_model(out)
        scores = f" ({', '.join(f'{name} {value:.4f}' for name, value in _scores(earlier))})" if earlier else ""
        raise OutputError(
            f"{str(out)!r} holds a model already{scores}.",
            hint="Name another folder, or replace the model: --overwrite (overwrite=True).",
        )


def earlier_model(out: Path) -> dict[str, Any] | None:
    """The description of the model at ``out``; None where there is none that can be read."""
    with suppress(ModelFolderError):
        return read_manifest(out)
    return None


def compared(earlier: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """A line per score that both models have: the replaced one's beside the new one's."""
    before, scores = dict(_scores(earlier)), dict(_scores(new))
    created = str(earlier.get("created", "?"))[:16].replace("T", " ")
    lines = [
        f"  {name}: {before[name]:.4f} before, {value:.4f} now" for name, value in scores.items() if name in before
    ]
    return [f"replaces the model of {created}", *lines]


def _scores(manifest: Mapping[str, Any]) -> Iterator[tuple[str, float]]:
    """Every target's first figure of every split, under its name."""
    for split, targets in manifest.get("metrics", {}).items():
        for target, metrics in targets.items():
            for name, value in metrics.items():
                if isinstance(value, int | float):
                    yield f"{split} {target} {name}", float(value)
                    break
