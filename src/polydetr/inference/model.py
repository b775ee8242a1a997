"""A trained model without its training: load it, predict, evaluate, explain."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self

import numpy as np

from polydetr.core.plugs import EXPLAIN, load
from polydetr.core.predictions import ByLabel, Evaluation, Prediction
from polydetr.core.records import ReadReport, Record
from polydetr.data.readers import TEST_PARTS
from polydetr.engine.check import ContractReport, check_records
from polydetr.engine.encode import Strictness
from polydetr.engine.engine import Engine
from polydetr.engine.inputs import asked_records, target_records, with_targets
from polydetr.engine.measure import evaluate_results, unseen_warnings
from polydetr.engine.outputs import Answer, answers
from polydetr.errors import InputError, did_you_mean
from polydetr.inference.load import load_engine
from polydetr.schema.spec import Schema
from polydetr.tasks.capabilities import HasPositive

if TYPE_CHECKING:
    from polydetr.explain import Explanation


class MeasureWarning(UserWarning):
    """Some of the evaluated rows have labels that the model never saw in training, and so cannot predict."""


@dataclass(frozen=True)
class Options:
    """How rows are read and answered.

    format, encoding: of a file whose name does not say it.
    strictness: "strict" refuses rows that are in any way unlike what the model was trained on (``check`` lists them);
        "lenient" takes a value that cannot be read, or a column that is not there, as missing.
    seed: for targets that are drawn at random (generation): the same seed and rows give the same images.
    on_error: what becomes of a row that cannot be read: "return" gives an answer with its error in the row's place,
        "raise" raises it.
    images: the folder of the images that the rows name: their paths begin there, and nothing outside of it is opened.
        Give it for rows of unknown origin; without it, paths begin at the file that names them.
    """

    format: str | None = None
    encoding: str | None = None
    strictness: Strictness = "normal"
    seed: int = 0
    on_error: Literal["return", "raise"] = "return"
    images: str | Path | None = None


class LoadedModel:
    """A trained model, ready to answer. Nothing here trains, and nothing imports what does."""

    def __init__(self, engine: Engine, manifest: Mapping[str, Any], *, folder: Path | None = None) -> None:
        self._engine = engine
        self._manifest = dict(manifest)
        self.folder = folder
        self.schema = Schema.from_dict(manifest["schema"])

    @classmethod
    def load(
        cls, folder: str | Path, *, precision: Literal["auto", "fp32", "bf16", "int8"] = "auto", runner: str = "torch"
    ) -> Self:
        """A saved model.

        precision: "auto" computes in 8-bit integers where they were proved on the validation rows and are faster on
            this machine; otherwise in bf16 what was trained in bf16, where this machine has instructions for it, and
            all else in fp32. Whether each is accurate enough for the model was checked when it was trained.
        runner: what computes the forward pass (``core.plugs.RUNNERS``).

        Raises:
            ConfigError: an unknown precision or runner, or "int8" where the machine or the model cannot compute in it.
            ModelFolderError: it is not a model, is damaged or changed, or was written by a newer version.
        """
        engine, manifest = load_engine(Path(folder), runner=runner, precision=precision)
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
        raises = options.on_error == "raise"
        records = self._records(rows, options, on_error="raise" if raises else "skip", report=report)
        return answers(engine, records, report, on_error=options.on_error)

    def predict(
        self, rows: Any, *, strictness: Strictness = "normal", seed: int = 0, images: str | Path | None = None
    ) -> list[dict[str, Any]]:
        """One answer per row, in order: target → label, number, list of entities, answer, or image (a uint8 array).
        ``rows``: see ``answer``; the others: see ``Options``.

        Raises:
            InputError: a row cannot be read; ``answer`` and ``stream`` give the good rows and the errors instead.
        """
        return [answer.values for answer in self._all(rows, strictness, seed, images)]

    def predict_proba(self, rows: Any) -> list[dict[str, Any]]:
        """One mapping per row: target → calibrated probabilities, by label for classes, of the answer otherwise."""
        return [
            {
                t: dict(p.details.probabilities) if isinstance(p.details, ByLabel) else p.probability
                for t, p in answer.predictions.items()
            }
            for answer in self._all(rows)
        ]

    def predictions(self, rows: Any, *, seed: int = 0) -> list[dict[str, Prediction]]:
        """One mapping per row: target → value, probability, and its task's details (``ClassDetails``, ...)."""
        return [dict(answer.predictions) for answer in self._all(rows, seed=seed)]

    def stream(
        self,
        rows: Any,
        *,
        format: str | None = None,
        encoding: str | None = None,
        strictness: Strictness = "normal",
        seed: int = 0,
        images: str | Path | None = None,
        files: Path | None = None,
        draw: Path | None = None,
    ) -> Iterator[dict[str, Any]]:
        """``answer`` as JSON-ready objects: a rejected row has "error" in place of "prediction", and a row may have
        "warnings". The arguments before ``files``: see ``Options``.

        files: the folder for answers that are no JSON (images); the text then has their paths, relative to the folder's
        parent, in place of their content. draw: a folder for the images with the predicted boxes.

        Raises:
            SaveError: a file cannot be written.
        """
        options = Options(format, encoding, strictness, seed, images=images)
        for answer in self.answer(rows, options=options):
            if draw is not None:
                from polydetr.engine.render import draw_answer

                draw_answer(self._engine, answer, draw)
            yield answer.to_dict(files=files)

    def embed(self, rows: Any, *, target: str | None = None, side: Literal["input", "target"] = "input") -> np.ndarray:
        """The vectors (N, D), float32, of length 1, of rows; or, with ``side="target"``, of the candidates to retrieve:
        rows with the target column, or its bare values. The dot product of two vectors is their similarity.

        target: which embedding, where there are several. Beside the vectors it needs constant memory.

        Raises:
            InputError: the model has no such target, or a row cannot be read.
        """
        known = [name for name, task in self._engine.tasks.items() if isinstance(task, HasPositive)]
        name = target_of(target, known, kind="embedding")
        if side == "target":
            results = self._engine.of_positives(name).run(target_records(rows, name))
        elif side == "input":
            results = self._engine.only(name).run(self._records(rows, Options()))
        else:
            raise InputError(f"side = {side!r}: {did_you_mean(str(side), ('input', 'target'))}")
        vectors = [np.asarray(r.predictions[name].value, dtype=np.float32) for r in results]
        width = int(self._manifest.get("embed_dim", 0))
        return np.stack(vectors) if vectors else np.zeros((0, width), dtype=np.float32)

    def check(
        self,
        rows: Any,
        *,
        format: str | None = None,
        encoding: str | None = None,
        images: str | Path | None = None,
    ) -> ContractReport:
        """Compares rows with what the model was trained on, without predicting: counts, by column, what is missing, was
        never seen in training, out of range, truncated or unreadable.

        Raises:
            SchemaError: a column that the model reads is not there.
        """
        return check_records(self._engine.encoder, self._records(rows, Options(format, encoding, images=images)))

    # -- measuring ----------------------------------------------------------------------------------------------------

    def evaluate(
        self,
        rows: Any,
        *,
        format: str | None = None,
        encoding: str | None = None,
        images: str | Path | None = None,
    ) -> dict[str, dict[str, float]]:
        """Metrics by target, by their standard names."""
        evaluations = self.evaluation(rows, format=format, encoding=encoding, images=images)
        return {target: dict(e.metrics) for target, e in evaluations.items()}

    def evaluation(
        self,
        rows: Any,
        *,
        format: str | None = None,
        encoding: str | None = None,
        images: str | Path | None = None,
    ) -> dict[str, Evaluation]:
        """Metrics with their tables and figures, by target. Of a data.yaml the part "test" is read, or else "val".

        Raises:
            SchemaError: a target column is not in ``rows``.
        """
        asked = self._records(rows, Options(format, encoding, images=images), split=TEST_PARTS)
        records = with_targets(asked, self._engine.tasks)
        results = list(self._engine.run(records, with_targets=True))
        evaluations = evaluate_results(self._engine, results)
        for target, evaluation in evaluations.items():
            for line in unseen_warnings(target, evaluation, where="these rows"):
                warnings.warn(line, MeasureWarning, stacklevel=2)
        return evaluations

    # -- explaining ---------------------------------------------------------------------------------------------------

    def explain(
        self,
        row: Mapping[str, Any] | str,
        *,
        target: str | None = None,
        choice: Any = None,
        out: str | Path | None = None,
        images: str | Path | None = None,
    ) -> Explanation:
        """Why the model answers this row as it does: scores of its columns, words, image cells and items, and a check
        that says whether the scores mean anything.

        target: which answer, where there are several; the first that can be explained when not given. choice: another
        label to explain (classification), the number of an entity or object, from 0 (tagging, entities, detection), or
        what the row is compared with (embedding). out: a folder for explanation.html and explanation.png. images: see
        ``Options``.

        Raises:
            InputError: the row cannot be read or has no word, there is no such target or choice, or the target's task
                has no explanation.
            SaveError: ``out`` cannot be written to.
        """
        record = next(iter(self._records([row], Options(images=images))))
        explanation = load(EXPLAIN)(self._engine, record, target=target, choice=choice)
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
        format: str | None = None,
        images: str | Path | None = None,
    ) -> Explanation:
        """``explain`` for row number ``row``, counted from 1, of a file; nothing after it is read.

        Raises:
            InputError: there is no such row; and what ``explain`` raises.
        """
        number = 0
        for number, record in enumerate(self._records(rows, Options(format, images=images)), start=1):
            if number == row:
                return load(EXPLAIN)(self._engine, record, target=target, choice=choice)
        raise InputError(f"there is no row {row}: the input has {number}", hint="Rows are counted from 1.")

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

    def _all(
        self, rows: Any, strictness: Strictness = "normal", seed: int = 0, images: str | Path | None = None
    ) -> Iterator[Answer]:
        """Answers to all rows; the first that cannot be read is raised."""
        return self.answer(rows, options=Options(strictness=strictness, seed=seed, on_error="raise", images=images))

    def _records(self, rows: Any, options: Options, **how: Any) -> Iterator[Record]:
        """how: as ``asked_records`` takes it."""
        fields = [field for modality in self._engine.encoder.modalities.values() for field in modality.fields]
        images = self.schema.names("image")
        return asked_records(
            rows, fields, format=options.format, encoding=options.encoding, strictness=options.strictness,
            images=options.images, also=self._training_images, image=images[0] if len(images) == 1 else None, **how,
        )  # fmt: skip

    @property
    def _training_images(self) -> str | None:
        """The folder that was named for the images of the training rows, where asking names none."""
        return self._manifest.get("config", {}).get("image", {}).get("root")


def target_of(target: str | None, known: Sequence[str], *, kind: str) -> str:
    """``target``, or the first of ``known``, the model's targets of one kind of task.

    Raises:
        InputError: the model has none of this kind, or ``target`` is not among them.
    """
    if not known:
        raise InputError(f"this model has no {kind} target", hint=f"Train one: target='column:{kind}'.")
    if target is not None and target not in known:
        raise InputError(f"{target!r} is no {kind} target of this model. {did_you_mean(target, known)}")
    return target if target is not None else known[0]
