"""What is recorded at the end of a run: all of it what the run has found, measured and drawn already.

The one exception are explanations of two rows, which a run has no other use for.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import yaml

from polydetr.core.mistakes import ShownMistake
from polydetr.core.predictions import Evaluation, RowResult
from polydetr.core.records import Record as Row
from polydetr.engine.engine import Engine
from polydetr.engine.render import image_of
from polydetr.errors import PolydetrError, RowError, shown
from polydetr.metrics.figures import BoxFigures
from polydetr.reports.attention_png import attention_png
from polydetr.reports.box_drawing import draw_boxes
from polydetr.reports.box_drawing import encoded as png_of
from polydetr.reports.style import shorten
from polydetr.training.tracking import encoded

if TYPE_CHECKING:
    from polydetr.training.fit import Trained

MOST_MISTAKES = 20
"""Of the worst mistakes of a target, and as many of its measured rows, right or wrong."""
LARGEST_PICTURE = 4 * 2**20
EXPLAINED, DRAWN = 2, 4
EXPLAINING_SECONDS = 10.0
"""After so many, nothing more is explained."""
LEAST_SCORE = 0.3
"""Of a box that is drawn."""
_LONGEST = 300


@dataclass(frozen=True)
class Record:
    """One call of a ``Tracker``'s method ``do``, but for its step."""

    do: str
    given: Mapping[str, Any]


def records_of(trained: Trained, folder: Path | None) -> Iterator[Record]:
    """Scores, tables, samples, the worst mistakes, the pictures of the report, explanations, settings, the model's
    place. folder: where the model and its report lie, None where nothing was saved.
    """
    info = trained.info
    yield Record("text", {"name": "settings as trained", "text": yaml.safe_dump(info["config"], sort_keys=False)})
    for split, evaluations in trained.evaluations.items():
        for target, evaluation in evaluations.items():
            yield from _evaluated(f"{split}/{target}", target, evaluation, trained.assembly.engine)
    if folder is not None:
        for path in sorted((folder / "reports").glob("*.png")):
            if path.stat().st_size <= LARGEST_PICTURE:
                yield _picture(f"report/{path.stem}", path)
    if info["config"].get("time_limit") is None:
        yield from _explained(trained)
    place = {"model_folder": str(folder.resolve())} if folder is not None else {}
    scores = {
        f"{split}/{target}/{name}": value
        for split, by_target in info["metrics"].items()
        for target, metrics in by_target.items()
        for name, value in metrics.items()
        if isinstance(value, int | float)
    }
    run = {f"training/{name}": value for name, value in info["training"].items()}
    yield Record("summary", {"values": {**place, **scores, **run, "parameters": info["parameters"]}})


def _evaluated(place: str, target: str, evaluation: Evaluation, engine: Engine) -> Iterator[Record]:
    for title, table in evaluation.tables.items():
        yield Record("text", {"name": f"{place}/{title}", "text": table})
    if isinstance(evaluation.figures, BoxFigures):
        yield from _boxes(f"{place}/samples", engine, evaluation.figures)
    if evaluation.samples:
        columns = ("row", "gold", "answer", "probability")
        rows = [_sample(result, target) for result in evaluation.samples]
        yield Record("table", {"name": f"{place}/samples", "columns": columns, "rows": rows})
    if evaluation.mistakes is not None:
        worst = [(k, one) for k, of_kind in evaluation.mistakes.shown.items() for one in of_kind[:MOST_MISTAKES]]
        rows = [_mistake(kind, one) for kind, one in worst[:MOST_MISTAKES]]
        columns = ("kind", "row", "gold", "answer", "confidence", "note")
        if rows:
            yield Record("table", {"name": f"{place}/worst mistakes", "columns": columns, "rows": rows})


def _boxes(name: str, engine: Engine, figures: BoxFigures) -> Iterator[Record]:
    """The first images, each with its labels and with what was found."""
    for number, (row, gold, found) in enumerate(
        islice(zip(figures.records, figures.gold, figures.predicted, strict=False), DRAWN), start=1
    ):
        image = image_of(engine, row)
        if image is None:
            continue
        try:
            opened = image.open()
        except RowError:
            continue
        for what, objects in (("gold", gold), ("answer", [o for o in found if o.get("score", 1.0) >= LEAST_SCORE])):
            png = png_of(draw_boxes(opened, objects))
            yield Record("picture", {"name": f"{name}/{number} {what}", "png": encoded(png)})


def _sample(result: RowResult, target: str) -> Sequence[Any]:
    prediction, gold = result.predictions[target], result.golds.get(target)
    answer = "" if prediction.value is None else shown(prediction.value, _LONGEST)
    return _row(result.record, target), "" if gold is None else shown(gold, _LONGEST), answer, prediction.probability


def _mistake(kind: str, one: ShownMistake) -> Sequence[Any]:
    of = one.mistake
    text = shown(one.text, _LONGEST) if one.text else ", ".join(f"{n}: {shown(v)}" for n, v in one.columns)
    gold, answer = shown(of.gold, _LONGEST), shown(of.answer, _LONGEST)
    return kind, text[:_LONGEST], gold, answer, of.confidence, shown(of.note, _LONGEST)


def _row(row: Row, target: str) -> str:
    """The row's other columns, on one line."""
    cells = (f"{n}: {shown(v)}" for n, v in row.row.items() if n != target and not isinstance(v, bytes))
    return shown(", ".join(cells), _LONGEST)


def _picture(name: str, path: Path) -> Record:
    return Record("picture", {"name": name, "png": encoded(path.read_bytes())})


def _explained(trained: Trained) -> Iterator[Record]:
    """The worst mistake of each of the first targets, and a row as it came: what its answer rests on, drawn."""
    from polydetr.explain.run import explain_record

    engine = trained.assembly.engine
    split = next(iter(trained.evaluations.values()), {})
    chosen: list[tuple[str, Row]] = []
    for target, evaluation in split.items():
        wrong = evaluation.mistakes.shown.values() if evaluation.mistakes is not None else ()
        chosen += [(target, of_kind[0].record) for of_kind in islice(filter(None, wrong), 1)]
        chosen += [(target, result.record) for result in evaluation.samples[:1]]
    with TemporaryDirectory() as place:
        began = time.monotonic()
        for number, (target, row) in enumerate(chosen[:EXPLAINED], start=1):
            if time.monotonic() - began > EXPLAINING_SECONDS:
                return
            path = Path(place) / "explanation.png"
            try:
                explanation = explain_record(engine, row, target=target)
                explanation.to_png(path)
            except PolydetrError:  # a task that has no explanation, or a row without a word
                continue
            yield _picture(f"explanation/{target}/{number}", path)
            # Under a name of its own: TensorBoard shows one thing of a name.
            yield Record("text", {"name": f"explanation/{target}/{number} check", "text": explanation.statement})
            if (attention := explanation.attention.get("rollout")) is not None:
                words = [word.text for word in explanation.words]
                attention_png(words, attention, path, title=f"Attention: {shorten(explanation.answer, 40)}")
                yield _picture(f"attention/{target}/{number}", path)
