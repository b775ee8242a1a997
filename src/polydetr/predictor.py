"""The public face: fit, predict, evaluate, explain, save, load."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from polydetr.config import for_tasks, load_config, load_config_mapping, merge, names_of
from polydetr.core.records import ReadReport, Record
from polydetr.errors import (
    InputError,
    Interrupted,
    SaveError,
    did_you_mean,
)
from polydetr.schema.spec import Schema

if TYPE_CHECKING:
    import numpy as np

    from polydetr.core.predictions import Evaluation, Prediction, RowResult
    from polydetr.engine.check import ContractReport
    from polydetr.engine.encode import Strictness
    from polydetr.engine.engine import Engine
    from polydetr.explain import Explanation
    from polydetr.model.masters import Masters
    from polydetr.training.fit import Display, Trained


class MeasureWarning(UserWarning):
    """Rows were measured that no answer of the model can be right about."""


class Predictor:
    """A trained model. Make one with ``Predictor.fit`` or ``Predictor.load``."""

    def __init__(
        self,
        engine: Engine,
        manifest: Mapping[str, Any],
        *,
        masters: Masters,
        folder: Path | None = None,
        trained: Trained | None = None,
    ) -> None:
        self._engine = engine
        self._manifest = dict(manifest)
        self._masters = masters
        self._trained = trained
        self.folder = folder
        self.schema = Schema.from_dict(manifest["schema"])

    # -- training -----------------------------------------------------------------------------------------------------

    @classmethod
    def fit(
        cls,
        train: Any = None,
        target: str | Sequence[str] | Mapping[str, str | None] | None = None,
        *,
        valid: Any = None,
        test: Any = None,
        inputs: str | Sequence[str] | Mapping[str, str | None] | None = None,
        out: str | Path | None = None,
        backbone: str | None = None,
        preset: Literal["fast", "balanced", "best"] | None = None,
        epochs: float | None = None,
        time_limit: str | float | None = None,
        seed: int | None = None,
        config: str | Path | Mapping[str, Any] | None = None,
        settings: Mapping[str, Any] | None = None,
        resume: bool = False,
        display: Display | None = None,
    ) -> Predictor:
        """Trains a model on labelled rows, measures it, and saves it when ``out`` is given.

        With ``training.devices`` above 1 the script runs once per device, each time with the predictor that this
        returns; the first process alone writes and shows progress.

        Args:
            train, valid, test: a path, a data frame (pandas, polars, pyarrow) or a list of rows. Without ``valid`` a
                share of the training rows is held out.
            target: the column to predict, several, or column → task; inferred when it has a usual name.
            inputs: the columns to read, or column → modality; all others when not given.
            out: where the model folder is written. A model already there is replaced only at the very end.
            backbone: a name (``polydetr backbones list``), a folder, a Hugging Face id, "none", or "auto".
            time_limit: seconds, or "90s", "10m", "1h30m".
            config: a YAML file or mapping with these same names; arguments given here win.
            settings: further configuration, for example ``{"training": {"lr": 1e-4}}``.
            resume: go on from the checkpoint that an interrupted run left beside ``out``.
            display: shows progress; None draws a progress bar on standard error.

        Raises:
            ConfigError, InputError, BackboneError, SaveError, Interrupted: see ``polydetr.errors``.
        """
        resolved = load_config(
            merge(load_config_mapping(config), settings or {}),
            target=names_of(target),
            inputs=names_of(inputs),
            out=None if out is None else str(out),
            backbone=backbone,
            preset=preset,
            epochs=epochs,
            time_limit=time_limit,
            seed=seed,
            **{k: v for k, v in {"train": train, "valid": valid, "test": test}.items() if isinstance(v, str)},
        )
        from polydetr.tasks.options import read_options
        from polydetr.training.devices import is_first_process
        from polydetr.training.display import make_display
        from polydetr.training.fit import Display, fit
        from polydetr.training.read import read_splits

        shown = (display or make_display()) if is_first_process() else Display()
        folder = Path(resolved.out) if resolved.out else None
        try:
            if folder is not None:
                from polydetr.model.folder import check_replaceable

                check_replaceable(folder)
            splits, schema = read_splits(resolved, train=train, valid=valid, test=test, shown=shown)
            read_options(resolved, schema)  # what is wrong with them is said before anything takes long
            resolved = for_tasks(resolved, [target.task for target in schema.targets])
            trained = fit(resolved, schema, splits, out=folder, resume=resume, display=shown)
        except KeyboardInterrupt:  # while reading or measuring; the training itself says where it stopped
            raise Interrupted("stopped.", hint="What was trained is kept: go on with --resume (resume=True).") from None
        finally:
            shown.close()
        predictor = cls(trained.assembly.engine, trained.info, masters=trained.masters, trained=trained)
        if folder is not None:
            try:
                trained.devices.in_first(lambda: predictor.save(folder))
                predictor._saved_in(folder)
            except SaveError as error:
                hint = f"{error.hint} The same call with --resume (resume=True) saves it without training again."
                raise SaveError(error.message, hint=hint) from error
        trained.checkpoints.discard()
        return predictor

    # -- answers ------------------------------------------------------------------------------------------------------

    def predict(self, rows: Any, *, strictness: Strictness = "normal", seed: int = 0) -> list[dict[str, Any]]:
        """One answer a row, in order: target → label, number, list of entities, answer, or picture (a uint8 array).

        rows: a list of rows (mappings; for a model that reads one column, its values will do), a path (a file of rows,
            a picture or a folder of pictures), a data frame, or one picture as an array.
        strictness: "strict" refuses rows that are in any way unlike what the model was trained on (``check`` lists
            them); "lenient" takes a value that cannot be read, or a column that is not there, as missing.
        seed: for targets that are drawn at random (generation): the same seed and rows give the same pictures.

        Raises:
            InputError: a row cannot be read; ``stream`` gives the good rows and the errors instead.
        """
        return [{t: p.value for t, p in r.predictions.items()} for r in self._run(rows, strictness, seed)]

    def check(self, rows: Any, *, format: str | None = None, encoding: str | None = None) -> ContractReport:
        """Judges rows by what the model was trained on, without asking it: what is missing, unseen, out of range, cut
        or unreadable, by column, counted.

        Raises:
            SchemaError: a column that the model reads is not there.
        """
        from polydetr.engine.check import check_records

        return check_records(self._engine.encoder, self._records(rows, format=format, encoding=encoding))

    def predict_proba(self, rows: Any) -> list[dict[str, Any]]:
        """One mapping a row: target → calibrated probabilities, by label for classes, of the answer otherwise."""
        from polydetr.core.predictions import ByLabel

        return [
            {
                t: dict(p.details.probabilities) if isinstance(p.details, ByLabel) else p.probability
                for t, p in r.predictions.items()
            }
            for r in self._run(rows)
        ]

    def predictions(self, rows: Any, *, seed: int = 0) -> list[dict[str, Prediction]]:
        """One mapping a row: target → value, probability, and its task's details (``ClassDetails``, ...)."""
        return [dict(r.predictions) for r in self._run(rows, seed=seed)]

    def embed(self, rows: Any, *, target: str | None = None, side: Literal["input", "target"] = "input") -> np.ndarray:
        """The vectors (N, D), float32, of length 1, of rows; or, with ``side="target"``, of what is to be found for
        them: rows with the target column, or its bare values. A product of two vectors is their likeness.

        target: which embedding, where there are several. Beside the vectors it needs constant memory.

        Raises:
            InputError: the model has no such target, or a row cannot be read.
        """
        import numpy as np

        from polydetr.engine.inputs import target_records

        name = self._embedding_target(target)
        if side == "target":
            results = self._engine.of_positives(name).run(target_records(rows, name))
        elif side == "input":
            results = self._engine.only(name).run(self._records(rows))
        else:
            raise InputError(f"side = {side!r}: {did_you_mean(str(side), ('input', 'target'))}")
        found = [np.asarray(r.predictions[name].value, dtype=np.float32) for r in results]
        width = int(self._manifest.get("embed_dim", 0))
        return np.stack(found) if found else np.zeros((0, width), dtype=np.float32)

    def explain(
        self,
        row: Mapping[str, Any] | str,
        *,
        target: str | None = None,
        choice: Any = None,
        out: str | Path | None = None,
    ) -> Explanation:
        """Why the model answers this row as it does: scores of its columns, words, picture cells and items, and a check
        of their worth.

        target: which answer, where there are several; the first that can be explained when not given. choice: another
        label to explain (classification), the number of an entity or object, from 0 (tagging, detection), or what the
        row is compared with (embedding). out: a folder for explanation.html and explanation.png.

        Raises:
            InputError: the row cannot be read or has no word, there is no such target or choice, or the target's task
                has no explanation.
            SaveError: ``out`` cannot be written to.
        """
        from polydetr.explain import explain_record

        record = next(iter(self._records([row])))
        explanation = explain_record(self._engine, record, target=target, choice=choice)
        if out is not None:
            explanation.save(out)
        return explanation

    def explain_file(
        self, rows: Any, *, row: int = 1, target: str | None = None, choice: Any = None, format: str | None = None
    ) -> Explanation:
        """``explain`` for row number ``row``, counted from 1, of a file; nothing after it is read.

        Raises:
            InputError: there is no such row; and what ``explain`` raises.
        """
        from polydetr.explain import explain_record

        seen = 0
        for seen, record in enumerate(self._records(rows, format=format), start=1):
            if seen == row:
                return explain_record(self._engine, record, target=target, choice=choice)
        raise InputError(f"there is no row {row}: the input has {seen}", hint="Rows are counted from 1.")

    def stream(
        self,
        rows: Any,
        *,
        format: str | None = None,
        encoding: str | None = None,
        strictness: Strictness = "normal",
        seed: int = 0,
        files: Path | None = None,
        draw: Path | None = None,
    ) -> Iterator[dict[str, Any]]:
        """One JSON-ready object a row, in order, in constant memory; a rejected row has "error" for a prediction, and
        what there is to tell about a row stands under "warnings". ``strictness``, ``seed``: see ``predict``.

        files: the folder for answers that are no JSON (pictures), which are then named as seen from the folder around
        it; without one they stand in the text. draw: a folder for the pictures with the boxes found in them.

        Raises:
            SaveError: a file cannot be written.
        """
        from polydetr.engine.outputs import stream_answers

        report = ReadReport()
        records = self._records(
            rows, format=format, encoding=encoding, on_error="skip", report=report, strictness=strictness
        )
        engine = self._engine.with_strictness(strictness).with_seed(seed)
        yield from stream_answers(engine, records, report, files=files, draw=draw)

    def evaluate(
        self, rows: Any, *, format: str | None = None, encoding: str | None = None
    ) -> dict[str, dict[str, float]]:
        """Metrics by target, by their standard names."""
        return {
            target: dict(e.metrics) for target, e in self.evaluation(rows, format=format, encoding=encoding).items()
        }

    def evaluation(self, rows: Any, *, format: str | None = None, encoding: str | None = None) -> dict[str, Evaluation]:
        """Metrics with their tables and figures, by target.

        Raises:
            SchemaError: a target column is not in ``rows``.
        """
        from polydetr.engine.inputs import with_targets
        from polydetr.engine.measure import evaluate_results, unseen_notes

        records = with_targets(self._records(rows, format=format, encoding=encoding), self._engine.tasks)
        results = list(self._engine.run(records, with_targets=True))
        evaluations = evaluate_results(self._engine, results)
        for target, evaluation in evaluations.items():
            for line in unseen_notes(target, evaluation, where="these rows"):
                warnings.warn(line, MeasureWarning, stacklevel=2)
        return evaluations

    # -- folder -------------------------------------------------------------------------------------------------------

    def save(self, folder: str | Path) -> None:
        """Writes the model folder; what was there before is replaced as a whole or not at all.

        Raises:
            SaveError: the disk is full, or the folder holds something that is not a model.
        """
        from polydetr.model.folder import save_folder

        save_folder(Path(folder), self._engine, self._masters.tensors(), self._manifest, extra=self._write_reports)
        self._saved_in(Path(folder))

    @classmethod
    def load(cls, folder: str | Path, *, precision: Literal["auto", "fp32", "bf16", "int8"] = "auto") -> Predictor:
        """A saved model.

        precision: "auto" computes in 8-bit integers where they were proved on the validation rows and are faster on
            this machine; otherwise in bf16 what was trained in bf16, where this machine has instructions for it, and
            all else in fp32. Whether each is accurate enough for the model was checked when it was trained.

        Raises:
            ConfigError: an unknown precision, or "int8" where the machine or the model cannot compute in it.
            ModelFolderError: it is not a model, is damaged or changed, or was written by a newer version.
        """
        from polydetr.model.folder import load_engine

        engine, manifest, masters = load_engine(Path(folder), precision=precision)
        return cls(engine, manifest, masters=masters, folder=Path(folder))

    @property
    def metrics(self) -> dict[str, Any]:
        """What was measured at the end of training: split → target → metric → value."""
        return dict(self._manifest.get("metrics", {}))

    @property
    def tables(self) -> dict[str, dict[str, str]]:
        """The printed reports of a run that has just ended: split → title → table."""
        found = self._trained.evaluations if self._trained else {}
        return {
            s: {f"{t} {name}": table for t, e in es.items() for name, table in e.tables.items()}
            for s, es in found.items()
        }

    @property
    def info(self) -> dict[str, Any]:
        """Everything the model folder says about itself: schema, configuration, versions, metrics, history."""
        return dict(self._manifest)

    # -- inside -------------------------------------------------------------------------------------------------------

    def _saved_in(self, folder: Path) -> None:
        from polydetr.model.folder import WEIGHTS

        self._masters.keep_in(folder / WEIGHTS)
        self.folder = folder

    def _write_reports(self, folder: Path) -> None:
        if self._trained is not None:
            from polydetr.training.report import write_run_reports

            write_run_reports(folder, self._trained)
        elif self.folder is not None:
            from polydetr.model.folder import copy_reports

            copy_reports(self.folder, folder)

    def _run(self, rows: Any, strictness: Strictness = "normal", seed: int = 0) -> Iterator[RowResult]:
        return self._engine.with_strictness(strictness).with_seed(seed).run(self._records(rows, strictness=strictness))

    def _records(self, rows: Any, **how: Any) -> Iterator[Record]:
        """how: as ``asked.asked_records`` takes it."""
        from polydetr.engine.inputs import asked_records

        fields = [field for modality in self._engine.encoder.modalities.values() for field in modality.fields]
        return asked_records(rows, fields, **how)

    def _embedding_target(self, target: str | None) -> str:
        from polydetr.tasks.capabilities import HasPositive

        known = [name for name, task in self._engine.tasks.items() if isinstance(task, HasPositive)]
        if not known:
            raise InputError("this model embeds nothing", hint="Train one: target='column:embedding'.")
        if target is not None and target not in known:
            raise InputError(f"{target!r} is no embedding of this model. {did_you_mean(target, known)}")
        return target if target is not None else known[0]
