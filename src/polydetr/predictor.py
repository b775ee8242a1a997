"""The public face: fit, predict, evaluate, explain, save, load."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from polydetr.config import Config, load_config, merge, parse_names
from polydetr.data.readers import read_records
from polydetr.data.records import ReadReport, Record
from polydetr.errors import Location, SchemaError, did_you_mean
from polydetr.schema import Schema, infer_schema

if TYPE_CHECKING:
    from polydetr.inference import Engine, RowResult
    from polydetr.tasks.base import Evaluation
    from polydetr.training.fit import Display, Splits, Trained

SAMPLE_ROWS = 2000
"""Rows from which a schema is inferred."""


class Predictor:
    """A trained model. Make one with ``Predictor.fit`` or ``Predictor.load``."""

    def __init__(self, engine: Engine, manifest: Mapping[str, Any], *, folder: Path | None = None, trained: Trained | None = None) -> None:
        self._engine = engine
        self._manifest = dict(manifest)
        self._trained = trained
        self.folder = folder
        self.schema = Schema.from_dict(manifest["schema"])

    # -- training -------------------------------------------------------------------------------------------------------

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

        Args:
            train, valid, test: a path, a data frame (pandas, polars, pyarrow) or a list of rows. Without ``valid`` a share
                of the training rows is held out.
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
            target=_names(target),
            inputs=_names(inputs),
            out=None if out is None else str(out),
            backbone=backbone,
            preset=preset,
            epochs=epochs,
            time_limit=time_limit,
            seed=seed,
            **{k: v for k, v in {"train": train, "valid": valid, "test": test}.items() if isinstance(v, str)},
        )
        from polydetr.training.display import make_display
        from polydetr.training.fit import fit

        shown = display or make_display()
        try:
            splits, schema = _read_splits(resolved, train=train, valid=valid, test=test, shown=shown)
            folder = Path(resolved.out) if resolved.out else None
            if folder is not None:
                from polydetr.folder import check_replaceable

                check_replaceable(folder)
            trained = fit(resolved, schema, splits, out=folder, resume=resume, display=shown)
        finally:
            shown.close()
        predictor = cls(trained.engine, trained.info, folder=folder, trained=trained)
        if folder is not None:
            predictor.save(folder)
        trained.checkpoints.discard()
        return predictor

    # -- answers --------------------------------------------------------------------------------------------------------

    def predict(self, rows: Any) -> list[dict[str, Any]]:
        """One answer a row, in order: target → label, number, list of entities, or answer.

        rows: a list of rows (mappings; for a model with one text input, strings will do), a path, or a data frame.

        Raises:
            InputError: a row cannot be read; ``stream`` gives the good rows and the errors instead.
        """
        return [{t: p.value for t, p in r.predictions.items()} for r in self._run(rows)]

    def predict_proba(self, rows: Any) -> list[dict[str, Any]]:
        """One mapping a row: target → calibrated probabilities, by label for classes, of the answer otherwise."""
        return [{t: p.details.get("probabilities", p.probability) for t, p in r.predictions.items()} for r in self._run(rows)]

    def stream(self, rows: Any, *, format: str | None = None) -> Iterator[dict[str, Any]]:
        """One JSON-ready object a row, in order and in constant memory; a rejected row has "error" instead of a prediction."""
        report = ReadReport()
        records = self._records(rows, format=format, on_error="skip", report=report)
        seen = 0
        for number, result in enumerate(self._engine.run(records, on_error="return"), start=1):
            yield from (_rejected(r.location, r.reason) for r in report.rejected[seen:])
            seen = len(report.rejected)
            yield _answer(number, result)
        yield from (_rejected(r.location, r.reason) for r in report.rejected[seen:])

    def evaluate(self, rows: Any, *, format: str | None = None) -> dict[str, dict[str, float]]:
        """Metrics by target, by their standard names."""
        return {target: dict(e.metrics) for target, e in self.evaluation(rows, format=format).items()}

    def evaluation(self, rows: Any, *, format: str | None = None) -> dict[str, Evaluation]:
        """Metrics with their tables and figures, by target.

        Raises:
            SchemaError: a target column is not in ``rows``.
        """
        from polydetr.inference import gold_values

        results = list(self._engine.run(self._with_targets(self._records(rows, format=format))))
        return {
            target: task.evaluate([r.predictions[target] for r in results], gold_values(task, results))
            for target, task in self._engine.tasks.items()
        }

    # -- folder ---------------------------------------------------------------------------------------------------------

    def save(self, folder: str | Path) -> None:
        """Writes the model folder; what was there before is replaced as a whole or not at all.

        Raises:
            SaveError: the disk is full, or the folder holds something that is not a model.
        """
        from polydetr.folder import save_folder

        weights = self._trained.weights if self._trained else self._engine.model.state_dict()
        save_folder(Path(folder), self._engine, weights, self._manifest, extra=self._write_reports)
        self.folder = Path(folder)

    @classmethod
    def load(cls, folder: str | Path) -> Predictor:
        """A saved model.

        Raises:
            ModelFolderError: it is not a model, is damaged or changed, or was written by a newer version.
        """
        from polydetr.folder import load_engine

        engine, manifest = load_engine(Path(folder))
        return cls(engine, manifest, folder=Path(folder))

    @property
    def metrics(self) -> dict[str, Any]:
        """What was measured at the end of training: split → target → metric → value."""
        return dict(self._manifest.get("metrics", {}))

    @property
    def tables(self) -> dict[str, dict[str, str]]:
        """The printed reports of a run that has just ended: split → title → table."""
        found = self._trained.evaluations if self._trained else {}
        return {s: {f"{t} {name}": table for t, e in es.items() for name, table in e.tables.items()} for s, es in found.items()}

    @property
    def info(self) -> dict[str, Any]:
        """Everything the model folder says about itself: schema, configuration, versions, metrics, history."""
        return dict(self._manifest)

    # -- inside ---------------------------------------------------------------------------------------------------------

    def _write_reports(self, folder: Path) -> None:
        if self._trained is not None:
            from polydetr.training.report import write_run_reports

            write_run_reports(folder, self._trained)

    def _run(self, rows: Any) -> Iterator[RowResult]:
        return self._engine.run(self._records(rows))

    def _records(
        self, rows: Any, *, format: str | None = None, on_error: Literal["raise", "skip"] = "raise", report: ReadReport | None = None
    ) -> Iterator[Record]:
        texts = self.schema.names("text")
        if isinstance(rows, Mapping):
            rows = [rows]
        elif isinstance(rows, Sequence) and not isinstance(rows, str) and len(texts) == 1:
            rows = [{texts[0]: row} if isinstance(row, str) else row for row in rows]
        return self._checked(read_records(rows, format=format, on_error=on_error, report=report), texts)

    def _checked(self, records: Iterable[Record], fields: Sequence[str]) -> Iterator[Record]:
        """The first row tells whether the columns are there: a wrong file is one error, not one a row."""
        first = True
        for record in records:
            if first:
                for name in fields:
                    if name not in record.row:
                        known = ", ".join(repr(c) for c in record.row)
                        raise SchemaError(
                            f"there is no column {name!r}, which the model reads; the columns are {known}. {did_you_mean(name, record.row)}",
                            location=Location(file=record.location.file),
                        )
                first = False
            yield record

    def _with_targets(self, records: Iterable[Record]) -> Iterator[Record]:
        missing = set(self._engine.tasks)
        seen = 0
        for record in records:
            missing -= set(record.row)
            seen += 1
            yield record
        if seen and missing:
            name = min(missing)
            raise SchemaError(f"there is no column {name!r}, the target to measure against")


def load_config_mapping(config: str | Path | Mapping[str, Any] | None) -> dict[str, Any]:
    """A configuration's own keys, without defaults, so that arguments can be laid over them."""
    if config is None:
        return {}
    if isinstance(config, Mapping):
        return dict(config)
    return load_config(config).model_dump(exclude_unset=True)


def _names(value: Any) -> dict[str, str | None] | None:
    if value is None or isinstance(value, Mapping):
        return None if value is None else dict(value)
    return parse_names(value)


def _read_splits(config: Config, *, train: Any, valid: Any, test: Any, shown: Display) -> tuple[Splits, Schema]:
    from polydetr.data.splits import split_records
    from polydetr.training.fit import Splits

    source = train if train is not None else config.train
    if source is None:
        raise SchemaError("no training rows were given", hint="Name them: train='file.csv' (--train FILE).")
    report = ReadReport()

    def read(rows: Any) -> list[Record]:
        return list(read_records(rows, format=config.format, on_error=config.on_error, report=report))

    rows = read(source)
    if not rows:
        raise SchemaError("there are no training rows", location=Location(file=source if isinstance(source, str) else None))
    schema = infer_schema([r.row for r in rows[:: max(1, len(rows) // SAMPLE_ROWS)]], targets=config.target or None, inputs=config.inputs)
    valid = valid if valid is not None else config.valid
    test = test if test is not None else config.test
    if valid is not None:
        held_out = read(valid)
    else:
        by = next((t.name for t in schema.targets if t.task == "classification"), None)
        rows, held_out = split_records(rows, config.training.valid_fraction, seed=config.seed, stratify_by=by, texts=schema.names("text"))
        shown.note(f"no validation rows were given: {len(held_out)} of the training rows are held out")
    splits = Splits(rows, held_out, read(test) if test is not None else None, [r.to_dict() for r in report.rejected])
    for line in (*report.lines(), *schema.notes):
        shown.note(line)
    reads = ", ".join(f"{f.name} ({f.modality})" for f in schema.inputs if f.modality != "ignore")
    gives = ", ".join(f"{t.name} ({t.task})" for t in schema.targets)
    shown.note(f"reads {reads}; predicts {gives}; {len(splits.train)} training and {len(splits.valid)} validation rows")
    return splits, schema


def _answer(number: int, result: RowResult) -> dict[str, Any]:
    if result.error is not None:
        return _rejected(result.record.location, str(result.error))
    answer: dict[str, Any] = {"row": result.record.location.row or number}
    answer["prediction"] = {t: p.value for t, p in result.predictions.items()}
    probabilities = {t: p.probability for t, p in result.predictions.items() if p.probability is not None}
    if probabilities:
        answer["probability"] = probabilities
    if result.warnings:
        answer["warnings"] = list(result.warnings)
    return answer


def _rejected(location: Location, reason: str) -> dict[str, Any]:
    return {"row": location.row or location.line, "error": reason}

