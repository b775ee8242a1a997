"""Found objects drawn on the pictures they were found in."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from polydetr.core.predictions import RowResult
from polydetr.core.records import Record, folder_of
from polydetr.engine.engine import Engine
from polydetr.modalities.image import ImageModality


def picture_of(engine: Engine, record: Record) -> Any:
    """The row's first picture, as a path where it has one and opened otherwise; None where the row has none.

    Raises:
        RowError: it cannot be read.
    """
    modality = engine.encoder.modalities.get("image")
    if not isinstance(modality, ImageModality) or not modality.fields:
        return None
    return modality.first_image(record.row, folder_of(record))


def draw_result(engine: Engine, result: RowResult, folder: Path, *, number: int) -> list[Path]:
    """A JPEG for each target that answers with boxes, in ``folder``, by the row's number and the picture's name.

    Raises:
        SaveError: it cannot be written.
    """
    from polydetr.reports.box_drawing import box_colours, save_boxes

    drawn = []
    targets = [target for target, task in engine.tasks.items() if task.reads_maps]
    picture = picture_of(engine, result.record) if targets and result.error is None else None
    if picture is None:
        return []
    name = f"-{picture.stem}" if isinstance(picture, Path) else ""
    folder.mkdir(parents=True, exist_ok=True)
    for target in targets:
        of = f"-{target}" if len(targets) > 1 else ""
        colours = box_colours(getattr(engine.tasks[target], "labels", ()))
        path = folder / f"{number:05d}{name}{of}.jpg"
        drawn.append(save_boxes(path, picture, result.predictions[target].value, colours=colours))
    return drawn
