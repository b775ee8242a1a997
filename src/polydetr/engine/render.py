"""Predicted objects drawn on their images."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from polydetr.core.records import Record, access_of
from polydetr.engine.engine import Engine
from polydetr.engine.outputs import Answer
from polydetr.modalities.image import ImageModality
from polydetr.tasks.capabilities import FindsInImages, HasLabels


def image_of(engine: Engine, record: Record) -> Any:
    """The row's first image, as a path where it has one and opened otherwise; None where the row has none.

    Raises:
        RowError: it cannot be read.
    """
    modality = engine.encoder.modalities.get("image")
    if not isinstance(modality, ImageModality) or not modality.fields:
        return None
    return modality.first_image(record.row, access_of(record))


def draw_answer(engine: Engine, answer: Answer, folder: Path) -> list[Path]:
    """A JPEG for each target that answers with boxes, in ``folder``, by the row's number and the image's name.

    Raises:
        SaveError: it cannot be written.
    """
    from polydetr.reports.box_drawing import save_boxes
    from polydetr.reports.style import label_colors

    drawn = []
    targets = [target for target, task in engine.tasks.items() if isinstance(task, FindsInImages)]
    image = image_of(engine, answer.record) if targets and answer.error is None and answer.record else None
    if image is None:
        return []
    name = f"-{image.stem}" if isinstance(image, Path) else ""
    folder.mkdir(parents=True, exist_ok=True)
    for target in targets:
        of = f"-{target}" if len(targets) > 1 else ""
        task = engine.tasks[target]
        colors = label_colors(task.labels if isinstance(task, HasLabels) else ())
        path = folder / f"{answer.row:05d}{name}{of}.jpg"
        drawn.append(save_boxes(path, image, answer.predictions[target].value, colors=colors))
    return drawn
