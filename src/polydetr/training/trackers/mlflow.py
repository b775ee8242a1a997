"""A run in an MLflow store: a SQLite file beside the models, or where MLFLOW_TRACKING_URI says.

MLflow 3 has retired its store of plain files (it refuses to open one unless told), so that SQLite is what it keeps by
itself, too.
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from polydetr.core.lock import held
from polydetr.training.trackers.base import Status, TrackedRun, Tracker, flat

_STATUS = {"finished": "FINISHED", "failed": "FAILED", "interrupted": "KILLED"}
_PARAMETERS, _LONGEST = 100, 500
"""Parameters that one call takes at most, and characters of each."""
RUN, STUDY = "polydetr.run", "polydetr.study"
"""Tags by which a run is found again when it is resumed, and a study when it gets another trial."""


def store_of(folder: Path) -> str:
    """The address of the store for runs whose records lie in ``folder``."""
    return os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{folder.resolve() / 'mlflow.db'}"


class MLflow(Tracker):
    """One run; trials are nested in a run of their study's name."""

    def __init__(self, run: TrackedRun) -> None:
        super().__init__(run)
        from mlflow.tracking import MlflowClient  # pyright: ignore[reportMissingImports]

        tags = {RUN: run.key}
        # Two that make the store, an experiment or a study at once would find it half made.
        with held(run.place / "mlflow.lock", what="the store", wait=True):
            self._client = MlflowClient(store_of(run.place))
            self._experiment = self._experiment_id(os.environ.get("MLFLOW_EXPERIMENT_NAME", "polydetr"))
            if run.group:
                tags["mlflow.parentRunId"] = self._study(run.group, replace(run, name="").key)
        found = self._found(RUN, run.key) if run.resumed else None
        self._id = found or self._client.create_run(self._experiment, run_name=run.name, tags=tags).info.run_id
        if found:
            self._client.update_run(found, status="RUNNING")
        else:
            self._parameters(flat(run.config))

    def scalars(self, values: Mapping[str, float], *, step: int) -> None:
        from mlflow.entities import Metric  # pyright: ignore[reportMissingImports]

        now = int(time.time() * 1000)
        self._client.log_batch(self._id, metrics=[Metric(_name(n), float(v), now, step) for n, v in values.items()])

    def text(self, name: str, text: str, *, step: int) -> None:
        self._client.log_text(self._id, text, f"{_name(name)}.txt")

    def table(self, name: str, columns: Sequence[str], rows: Sequence[Sequence[Any]], *, step: int) -> None:
        table = {"columns": list(columns), "data": [list(row) for row in rows]}
        self._client.log_dict(self._id, table, f"{_name(name)}.json")

    def picture(self, name: str, png: bytes, *, step: int) -> None:
        folder, _, file = _name(name).rpartition("/")
        with TemporaryDirectory() as place:
            path = Path(place) / f"{file}.png"
            path.write_bytes(png)
            self._client.log_artifact(self._id, str(path), folder or None)

    def summary(self, values: Mapping[str, Any], *, step: int) -> None:
        numbers = {name: value for name, value in values.items() if isinstance(value, int | float)}
        self.scalars(numbers, step=step)
        for name in values.keys() - numbers.keys():
            self._client.set_tag(self._id, f"polydetr.{_name(name)}", str(values[name]))

    def close(self, status: Status) -> None:
        self._client.set_terminated(self._id, _STATUS[status])

    def _experiment_id(self, name: str) -> str:
        found = self._client.get_experiment_by_name(name)
        if found is not None:
            return found.experiment_id
        local = "MLFLOW_TRACKING_URI" not in os.environ
        place = (self.run.place.resolve() / "mlflow-artifacts").as_uri() if local else None
        return self._client.create_experiment(name, artifact_location=place)

    def _study(self, group: str, key: str) -> str:
        """The run that the trials of a study are nested in."""
        if found := self._found(STUDY, key):
            return found
        made = self._client.create_run(self._experiment, run_name=group, tags={STUDY: key}).info.run_id
        self._client.set_terminated(made)
        return made

    def _found(self, tag: str, value: str) -> str | None:
        runs = self._client.search_runs([self._experiment], f"tags.`{tag}` = '{value}'", max_results=1)
        return runs[0].info.run_id if runs else None

    def _parameters(self, settings: Mapping[str, Any]) -> None:
        from mlflow.entities import Param  # pyright: ignore[reportMissingImports]

        params = [Param(_name(name), str(value)[:_LONGEST]) for name, value in settings.items()]
        for start in range(0, len(params), _PARAMETERS):
            self._client.log_batch(self._id, params=params[start : start + _PARAMETERS])


def _name(name: str) -> str:
    """The name as MLflow takes it: letters, figures and ``_-. /``, 250 characters, no part of it empty."""
    parts = "".join(c if c.isalnum() or c in "_-. /" else "_" for c in name[:250]).split("/")
    return "/".join(part for part in parts if part.strip(". ")) or "_"
