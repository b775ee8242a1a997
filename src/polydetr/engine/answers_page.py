"""Answers turned into what their page shows: texts with spans, images with boxes, classes with probabilities."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from polydetr.core.predictions import WITHHELD, Bounded, ByLabel, Prediction, is_withheld, label_of
from polydetr.data.writers.base import cell_text
from polydetr.engine.answer_table import own_row
from polydetr.engine.engine import Engine
from polydetr.engine.outputs import Answer, json_value
from polydetr.engine.render import image_of
from polydetr.reports.answers_page import AnswersPage, ShownAnswer, ShownTarget
from polydetr.reports.style import label_colors
from polydetr.tasks.base import Task
from polydetr.tasks.capabilities import FindsInImages, HasLabels, MarksText, WritesFiles

if TYPE_CHECKING:
    from PIL.Image import Image

_THUMBNAIL = 480  # pixels of an image's longer side, where nothing is drawn on it
_WITHHELD = "#8a929b"  # the color of spans that are withheld, whatever their label


class PageOfAnswers:
    """The page of a model's answers, filled answer by answer."""

    def __init__(self, engine: Engine, title: str) -> None:
        self._engine = engine
        self._colors = {t: label_colors(task.labels) for t, task in engine.tasks.items() if isinstance(task, HasLabels)}
        marking = [task for task in engine.tasks.values() if isinstance(task, MarksText)]
        colors = label_colors(label for task in marking for label in task.marked_labels)
        self._page = AnswersPage(title, colors | {WITHHELD.format(label): _WITHHELD for label in colors})

    def write(self, answer: Answer) -> None:
        """Raises RowError where an image that was answered cannot be opened any more."""
        self._page.count(rejected=answer.error is not None)
        if not self._page.full:
            self._page.add(self._shown(answer))

    def html(self) -> str:
        return self._page.html()

    def _shown(self, answer: Answer) -> ShownAnswer:
        image = None
        if answer.record is not None and answer.error is None and (found := image_of(self._engine, answer.record)):
            image = found.open()
        tasks = self._engine.tasks
        targets = [self._target(tasks[t], t, p, image) for t, p in answer.predictions.items()]
        drawn = any(isinstance(tasks[t], FindsInImages) for t in answer.predictions)
        marked = answer.text.text if answer.text and any(t.spans is not None for t in targets) else ""
        names = (answer.about.get(name) for name in ("image", "file", "image_id", "id"))
        row = own_row(answer) if answer.record is not None else {}
        own = {
            f"{name} (given)" if name in tasks else name: cell_text(value)
            for name, value in row.items()
            if not _is_shown(value, marked)
        }
        return ShownAnswer(
            answer.row,
            " · ".join(str(name) for name in names if name is not None),
            targets,
            {name: text for name, text in own.items() if text},
            marked,
            _thumbnail(image) if image is not None and not drawn else None,
            [str(finding) for finding in answer.warnings],
            None if answer.error is None else str(answer.error),
        )

    def _target(self, task: Task, target: str, prediction: Prediction, image: Image | None) -> ShownTarget:
        from polydetr.reports.box_drawing import data_url, draw_boxes

        details, value, drawn = prediction.details, _in_words(task, prediction), None
        if isinstance(task, WritesFiles):
            value, drawn = "", json_value(task, prediction.value)
        elif isinstance(task, FindsInImages) and image is not None:
            drawn = data_url(draw_boxes(image, prediction.value, colors=self._colors.get(target)), jpeg=True)
        return ShownTarget(
            target,
            value,
            prediction.probability,
            {str(k): p for k, p in details.probabilities.items()} if isinstance(details, ByLabel) else {},
            details.interval if isinstance(details, Bounded) else None,
            drawn,
            task.marks(prediction) if isinstance(task, MarksText) else None,
            prediction.abstained or (bool(prediction.items) and all(map(is_withheld, prediction.items))),
        )


def _in_words(task: Task, prediction: Prediction) -> str:
    """The answer as its table has it for people; spans and boxes, which are marked where they are, by their number."""
    if isinstance(task, MarksText | FindsInImages) and isinstance(prediction.value, list):
        counts = Counter(map(label_of, prediction.value))
        return ", ".join(f"{label} × {number}" for label, number in counts.most_common())
    columns = task.answer_columns()
    column = next((column for column in columns if column.kind == "text"), columns[0])
    cell = column.cell(prediction)
    return f"{cell:.6g}" if isinstance(cell, float) else cell_text(cell)


def _is_shown(value: Any, marked: str) -> bool:
    """Whether the cell is the text that is shown with its spans, or pixels."""
    if isinstance(value, list | tuple) and all(isinstance(part, str) for part in value):
        return bool(marked) and "".join("".join(value).split()) == "".join(marked.split())
    pixels = isinstance(value, bytes | bytearray) or hasattr(value, "__array_interface__")
    if isinstance(value, Mapping):
        return "bytes" in value
    return pixels or (isinstance(value, str) and bool(marked) and value == marked)


def _thumbnail(image: Image) -> str:
    from polydetr.reports.box_drawing import data_url

    small = image.copy()
    small.thumbnail((_THUMBNAIL, _THUMBNAIL))
    return data_url(small, jpeg=True)
