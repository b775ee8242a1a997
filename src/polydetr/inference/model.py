"""A trained model without its training: load it, predict, evaluate, explain."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self, TextIO

import numpy as np

from polydetr.core.access import IN_MEMORY
from polydetr.core.predictions import ByLabel, Evaluation, Prediction
from polydetr.core.reading import ExpectedColumns, ReadOptions
from polydetr.core.records import ReadReport, Record
from polydetr.data.readers import TEST_PARTS
from polydetr.engine.check import ContractReport, check_records
from polydetr.engine.encode import Strictness
from polydetr.engine.engine import Engine
from polydetr.engine.inputs import ReadingWarning, asked_records, target_records, with_targets
from polydetr.engine.outputs import Answer, answers, without_errors
from polydetr.engine.render import ShownImage, image_of
from polydetr.errors import InputError, did_you_mean
from polydetr.inference.asked import row_number, target_of
from polydetr.inference.kept_rows import KeptRows, encoded_rows, read_rows
from polydetr.inference.load import load_engine
from polydetr.inference.measuring import evaluated, good_results, left_out, write_reports
from polydetr.inference.options import Options, least_probabilities, thresholds
from polydetr.inference.proof import no_rows
from polydetr.inference.writing import Written, check_can_show, check_outputs, write_answers
from polydetr.metrics.calibration import Threshold
from polydetr.schema.spec import Schema
from polydetr.tasks.capabilities import HasLabels, HasPositive

if TYPE_CHECKING:
    from PIL.Image import Image

    from polydetr.explain import Explanation
    from polydetr.inference.optimize import Optimized


class MeasureWarning(UserWarning):
    """What was measured is not all that was to be: rows were left out, a target has no labels, the model never saw some
    labels in training, and so cannot predict them, or labels do not fit their text.
    """


class LoadedModel:
    """A trained model, ready to answer. Nothing here trains, and nothing imports what does."""

    def __init__(self, engine: Engine, manifest: Mapping[str, Any], *, folder: Path | None = None) -> None:
        self._engine = engine
        self._manifest = dict(manifest)
        self.folder = folder
        self.schema = Schema.from_dict(manifest["schema"])

    def __repr__(self) -> str:
        reads = ", ".join(f"{f.name} ({f.modality})" for f in self.schema.inputs if f.modality != "ignore")
        labels = {t: len(task.labels) for t, task in self._engine.tasks.items() if isinstance(task, HasLabels)}
        counts = {name: f", {count} labels" for name, count in labels.items()}
        predicts = ", ".join(f"{t.name} ({t.task}{counts.get(t.name, '')})" for t in self.schema.targets)
        place = "not saved" if self.folder is None else repr(str(self.folder))
        return f"<{type(self).__name__} {place}: reads {reads}; predicts {predicts}>"

    @classmethod
    def load(
        cls,
        folder: str | Path,
        *,
        precision: Literal["auto", "fp32", "bf16", "int8"] = "auto",
        runner: str = "auto",
        max_pixels: int | None = None,
    ) -> Self:
        """A saved model.

        precision: "auto" computes in 8-bit integers where they were proved on the validation rows and are faster on
            this machine; otherwise in bf16 what was trained in bf16, where this machine has instructions for it, and
            all else in fp32. Whether each is accurate enough for the model was checked when it was trained. Where
            ``optimize`` was run on this machine, "auto" takes what it found, threads included.
        runner: what computes the forward pass: "torch", or "onnx" for what ``export`` wrote; "auto" takes the one that
            the folder is for.
        max_pixels: of an image, in place of ``image.max_pixels`` of the training.

        Raises:
            ConfigError: an unknown precision or runner, or "int8" where the machine or the model cannot compute in it.
            ModelFolderError: it is not a model, is damaged or changed, or was written by a newer version.
        """
        engine, manifest = load_engine(Path(folder), runner=runner, precision=precision, max_pixels=max_pixels)
        return cls(engine, manifest, folder=Path(folder))

    # -- answers ------------------------------------------------------------------------------------------------------

    def answer(self, rows: Any, *, options: Options = Options()) -> Iterator[Answer]:
        """One answer per row, in order, in constant memory: predictions with probabilities and details, warnings, or
        the error with its message, location and hint. ``predict``, ``predict_proba``, ``predictions`` and ``stream``
        are views of it.

        rows: a list of rows (mappings; for a model that reads one column, its values will do), a path (a file of rows,
            an image or a folder of images), a data frame, or one image as an array.

        Raises:
            InputError: the rows cannot be read at all; or, with ``on_error="raise"``, one of them.
        """
        report, engine = ReadReport(), self._engine.with_strictness(options.strictness).with_seed(options.seed)
        on_error = options.reading.on_error
        reading = replace(options.reading, on_error=on_error or "skip")
        records = self._records(rows, reading, strictness=options.strictness, report=report)
        least = least_probabilities(engine, options)
        every = answers(engine, records, report, on_error="raise" if on_error == "raise" else "return", least=least)
        return without_errors(every) if on_error == "skip" else every

    def thresholds(self, accuracy: float) -> dict[str, Threshold]:
        """Target → the probability from which on its answers are right ``accuracy`` of the time, with the share of
        answers that this leaves, chosen on the validation rows that did not choose the weights. Where none reaches it,
        the most accurate one (``reached`` is False).

        Raises:
            InputError: ``accuracy`` is not between 0 and 1, or no answer of this model can be withheld: it answers
                quantities, vectors or images, or was saved without what this takes.
        """
        return thresholds(self._engine, accuracy)

    def predict(
        self, rows: Any, *, strictness: Strictness = "normal", seed: int = 0, reading: ReadOptions = ReadOptions()
    ) -> list[dict[str, Any]]:
        """One answer per row, in order: target → label, number, list of entities, answer, or image (a uint8 array).
        A label has the type that it has in the training rows: 0, True or "yes"; in a file of CSV all labels are text.
        ``rows``: see ``answer``; ``strictness``, ``seed``, ``reading``: see ``Options``.

        Raises:
            InputError: a row cannot be read; ``answer`` and ``stream`` give the good rows and the errors instead.
        """
        return [answer.values for answer in self._all(rows, Options(reading, strictness, seed))]

    def predict_proba(self, rows: Any, *, reading: ReadOptions = ReadOptions()) -> list[dict[str, Any]]:
        """One mapping per row: target → calibrated probabilities, by label for classes, of the answer otherwise."""
        return [
            {
                t: dict(p.details.probabilities) if isinstance(p.details, ByLabel) else p.probability
                for t, p in answer.predictions.items()
            }
            for answer in self._all(rows, Options(reading))
        ]

    def predictions(
        self, rows: Any, *, seed: int = 0, reading: ReadOptions = ReadOptions()
    ) -> list[dict[str, Prediction]]:
        """One mapping per row: target → value, probability, and its task's details (``ClassDetails``, ...)."""
        return [dict(answer.predictions) for answer in self._all(rows, Options(reading, seed=seed))]

    def stream(
        self,
        rows: Any,
        *,
        reading: ReadOptions = ReadOptions(),
        strictness: Strictness = "normal",
        seed: int = 0,
        min_confidence: float | None = None,
        accuracy: float | None = None,
        files: Path | None = None,
        draw: Path | None = None,
    ) -> Iterator[dict[str, Any]]:
        """``answer`` as JSON-ready objects: a rejected row has "error" in place of "prediction", and a row may have
        "warnings". The arguments before ``files``: see ``Options``.

        files: the folder for answers that are no JSON (images); the text then has their paths, relative to the folder's
        parent, in place of their content. draw: a folder for the images with the predicted boxes.

        Raises:
            InputError: the model finds nothing that could be drawn. SaveError: a file cannot be written.
        """
        check_can_show(self._engine, draw=draw is not None)
        options = Options(reading, strictness, seed, min_confidence, accuracy)
        for answer in self.answer(rows, options=options):
            if draw is not None:
                from polydetr.engine.render import draw_answer

                draw_answer(self._engine, answer, draw)
            yield answer.to_dict(files=files)

    def write(
        self,
        rows: Any,
        out: str | Path | TextIO | None = None,
        *,
        html: str | Path | None = None,
        draw: str | Path | None = None,
        probabilities: bool = False,
        options: Options = Options(),
        progress: Callable[[int], None] | None = None,
    ) -> Written:
        """``answer``, written to files for people and programs, in constant memory; each appears when it is whole.

        out: a table (.csv, .tsv, .parquet, .xlsx) of the rows' own columns with the answers beside them, or JSON lines
        of the answers (.jsonl; also a pipe or device, and an open text stream). A rejected row keeps its place, with
        its reason under "error". For a target T a table has the columns ``predicted_T``, ``T_confidence`` and as its
        task adds (``engine.answer_table``); images that are answered are written into a folder beside it, and the table
        has their names.
        html: one page of the answers that needs no other file: spans marked in their text, boxes drawn on their images.
        draw: a folder for the images, drawn with the objects found in them.
        probabilities: also those of every class. progress: called with the number of rows after each.

        Raises:
            InputError: the name of ``out`` says no known format, or is that of the rows or of the page, the model
                answers with nothing that ``draw`` or ``probabilities`` could show, a wrong probability is asked for, or
                the rows cannot be read at all. SaveError: a file cannot be written, or a package that it takes is not
                installed.
        """
        place = Path(out) if isinstance(out, str | Path) else out
        check_outputs(place if isinstance(place, Path) else None, html, rows=rows)
        check_can_show(self._engine, draw=draw is not None, probabilities=probabilities)
        title = f"Answers of {self.folder.name}" if self.folder else "Answers"
        return write_answers(
            self.answer(rows, options=options), self._engine, place, html=None if html is None else Path(html),
            draw=None if draw is None else Path(draw), title=title, probabilities=probabilities,
            withheld=list(least_probabilities(self._engine, options)), progress=progress,
        )  # fmt: skip

    def embed(
        self,
        rows: Any,
        *,
        target: str | None = None,
        side: Literal["input", "target"] = "input",
        reading: ReadOptions = ReadOptions(),
    ) -> np.ndarray:
        """The vectors (N, D), float32, of length 1, of rows; or, with ``side="target"``, of the candidates to retrieve:
        rows with the target column, or its bare values. The dot product of two vectors is their similarity.

        target: which embedding, where there are several. Beside the vectors it needs constant memory. Rows that
        ``reading`` lets it skip have no vector; a ``ReadingWarning`` tells of them.

        Raises:
            InputError: the model has no such target, or a row cannot be read.
        """
        known = [name for name, task in self._engine.tasks.items() if isinstance(task, HasPositive)]
        name, report = target_of(target, known, kind="embedding"), ReadReport()
        if side == "target":
            engine, records = (
                self._engine.of_positives(name),
                target_records(rows, name, reading=reading, report=report),
            )
        elif side == "input":
            engine, records = self._engine.only(name), self._records(rows, reading, report=report)
        else:
            raise InputError(f"side = {side!r}: {did_you_mean(str(side), ('input', 'target'))}")
        results = good_results(engine, records, report, skip=reading.on_error == "skip")
        vectors = [np.asarray(r.predictions[name].value, dtype=np.float32) for r in results]
        for line in left_out(report):
            warnings.warn(line, ReadingWarning, stacklevel=2)
        width = int(self._manifest.get("embed_dim", 0))
        return np.stack(vectors) if vectors else np.zeros((0, width), dtype=np.float32)

    def check(self, rows: Any, *, reading: ReadOptions = ReadOptions()) -> ContractReport:
        """Compares rows with what the model was trained on, without predicting: counts, by column, what is missing, was
        never seen in training, out of range, truncated or unreadable.

        Raises:
            SchemaError: a column that the model reads is not there.
        """
        report = ReadReport()
        return check_records(self._engine.encoder, self._records(rows, reading, report=report), report)

    # -- measuring ----------------------------------------------------------------------------------------------------

    def evaluate(
        self, rows: Any, *, out: str | Path | None = None, reading: ReadOptions = ReadOptions()
    ) -> dict[str, dict[str, float]]:
        """Metrics by target, by their standard names. ``out``: see ``evaluation``."""
        return {target: dict(e.metrics) for target, e in self.evaluation(rows, out=out, reading=reading).items()}

    def evaluation(
        self,
        rows: Any,
        *,
        out: str | Path | None = None,
        reading: ReadOptions = ReadOptions(),
        told: Callable[[Path], None] = lambda path: None,
    ) -> dict[str, Evaluation]:
        """Metrics with their tables, figures and worst mistakes, by target; a target without labels in ``rows`` is not
        measured.

        out: a folder for what training writes into ``reports/``: tables, JSON, diagrams, and a page of the worst
        mistakes of each target. The names of the files begin with that of the file of rows, or where files of other
        rows are called so, with that and a number. told: of every file that is written.

        Raises:
            SchemaError: ``rows`` have labels of no target. SaveError: ``out`` cannot be written.
        """
        if out is not None:
            from polydetr.reports.evaluation import report_folder

            report_folder(out)
        report = ReadReport()
        asked = self._records(rows, reading, report=report, labels=True, split=TEST_PARTS)
        records = with_targets(asked, self._engine.tasks)
        evaluations, lines = evaluated(self._engine, records, report, skip=reading.on_error == "skip")
        for line in lines:
            warnings.warn(line, MeasureWarning, stacklevel=2)
        if out is not None:
            for path in write_reports(Path(out), evaluations, rows, image_of=partial(image_of, self._engine)):
                told(path)
        return evaluations

    def _kept_rows(self, rows: Any = None, *, reading: ReadOptions = ReadOptions()) -> KeptRows | None:
        """Labeled rows, encoded: at most ``kept_rows.MAX_ROWS`` of ``rows``, at equal distances, or those that the
        model folder keeps; None where it keeps none.

        Raises:
            InputError: the rows cannot be read. ConfigError: they are too large. ModelFolderError: those of the folder
                cannot be read.
        """
        if rows is None:
            return None if self.folder is None else read_rows(self.folder, self._engine.tasks)
        report = ReadReport()
        asked = self._records(rows, reading, report=report, labels=True, split=TEST_PARTS)
        records = with_targets(asked, self._engine.tasks)
        kept = encoded_rows(self._engine, records, report, skip=reading.on_error == "skip")
        for line in left_out(report):
            warnings.warn(line, MeasureWarning, stacklevel=2)
        return kept

    @classmethod
    def optimize(
        cls,
        folder: str | Path,
        rows: Any = None,
        *,
        reading: ReadOptions = ReadOptions(),
        progress: Callable[[str], None] = lambda line: None,
    ) -> Optimized:
        """Measures the ways to compute the model of a folder on this machine: threads, number formats, tokens per
        batch; on labeled rows, or the validation rows that the folder keeps. The fastest that answers as well as
        float32 is written into the folder, and ``load`` obeys it on this machine.

        Raises:
            ConfigError: there are no labeled rows. ModelFolderError: see ``load``. SaveError: the folder cannot be
            written.
        """
        from polydetr.inference.optimize import optimize

        engine, manifest = load_engine(Path(folder), obeys=False)
        model = cls(engine, manifest, folder=Path(folder))
        kept = model._proving_rows(rows, reading=reading)
        return optimize(Path(folder), engine, manifest, kept, progress=progress)

    def _proving_rows(self, rows: Any = None, *, reading: ReadOptions = ReadOptions()) -> KeptRows:
        """``_kept_rows``, which have to be there.

        Raises:
            ConfigError: there are none.
        """
        kept = self._kept_rows(rows, reading=reading)
        if kept is None or not kept.have_labels:
            why = "the model folder keeps none" if rows is None else "there is none that can be read"
            raise no_rows(why if kept is None else "none has a label")
        return kept

    # -- explaining ---------------------------------------------------------------------------------------------------

    def explain(
        self,
        row: Mapping[str, Any] | str,
        *,
        target: str | None = None,
        choice: Any = None,
        out: str | Path | None = None,
        reading: ReadOptions = ReadOptions(),
    ) -> Explanation:
        """Why the model answers this row as it does: scores of its columns, words, image cells and items, and a check
        that says whether the scores mean anything.

        target: which answer, where there are several; the first that can be explained when not given. choice: another
        label to explain (classification), the number of an entity or object, from 0 (tagging, entities, detection), or
        what the row is compared with (embedding). out: a folder for explanation.html and explanation.png. reading:
        see ``Options``.

        Raises:
            InputError: the row cannot be read or has no word, there is no such target or choice, or the target's task
                has no explanation.
            SaveError: ``out`` cannot be written to.
        """
        from polydetr.explain.run import explain_record

        record = next(iter(self._records([row], replace(reading, on_error="raise"))))  # there is no other row
        explanation = explain_record(self._engine, record, target=target, choice=choice)
        if out is not None:
            explanation.save(out)
        return explanation

    def explain_file(
        self,
        rows: Any,
        *,
        row: int = 1,
        target: str | None = None,
        choice: Any = None,
        reading: ReadOptions = ReadOptions(),
    ) -> Explanation:
        """``explain`` for row number ``row``, counted from 1, of a file; nothing after it is read.

        Raises:
            InputError: there is no such row; and what ``explain`` raises.
        """
        from polydetr.explain.run import explain_record

        report = ReadReport()
        reading = replace(reading, on_error="skip")  # a row before it is none of its concern
        record = row_number(row, self._records(rows, reading, report=report), report)
        for line in report.notes():  # the rows are not read to their end, where this would be told
            warnings.warn(line, ReadingWarning, stacklevel=2)
        return explain_record(self._engine, record, target=target, choice=choice)

    # -- images -------------------------------------------------------------------------------------------------------

    def open_image(self, image: Any, *, column: str | None = None) -> Image:
        """An image (a path, bytes, an array or a Pillow image) as the model sees it, before it is brought to the
        model's size: upright, over white, in 8-bit RGB. column: of several columns of images, which.

        Raises:
            InputError: the model reads no images. RowError: it cannot be read.
        """
        field = target_of(column, self.schema.names("image"), kind="image")
        return ShownImage(self._engine.encoder.modalities["image"], field, image, IN_MEMORY).open()  # type: ignore[arg-type]

    # -- about itself -------------------------------------------------------------------------------------------------

    @property
    def metrics(self) -> dict[str, Any]:
        """What was measured at the end of training: split → target → metric → value."""
        return dict(self._manifest.get("metrics", {}))

    @property
    def info(self) -> dict[str, Any]:
        """Everything the model folder says about itself: schema, configuration, versions, metrics, history."""
        return dict(self._manifest)

    # -- inside -------------------------------------------------------------------------------------------------------

    def _all(self, rows: Any, options: Options) -> Iterator[Answer]:
        """Answers to all rows; the first that cannot be read is raised."""
        on_error = options.reading.on_error or "raise"
        return self.answer(rows, options=replace(options, reading=replace(options.reading, on_error=on_error)))

    def _records(self, rows: Any, reading: ReadOptions, **how: Any) -> Iterator[Record]:
        """how: as ``asked_records`` takes it."""
        fields = [field for modality in self._engine.encoder.modalities.values() for field in modality.fields]
        targets = tuple(target.name for target in self.schema.targets)
        texts = None if how.get("labels") else tuple(self.schema.names("text"))
        expected = ExpectedColumns(tuple(field.name for field in self.schema.inputs), targets, texts)
        by_token = any(task.per_token for task in self._engine.tasks.values())
        one_value = ("number", "category", "date") if by_token else ("number", "category", "date", "text")
        single = [f.name for f in self.schema.inputs if f.modality in one_value and f.name != "tokens"]
        images = self.schema.names("image")
        return asked_records(
            rows, fields, single=single, reading=reading, expected=expected, lists=self.schema.lists,
            also=self._training_images, image=images[0] if len(images) == 1 else None, **how,
        )  # fmt: skip

    @property
    def _training_images(self) -> str | None:
        """The folder that was named for the images of the training rows, where asking names none."""
        config = self._manifest.get("config", {})
        return config.get("reading", {}).get("images") or config.get("image", {}).get("root")
