"""Predicted objects drawn on their images."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from PIL.Image import Image

from polydetr.core.access import FileAccess
from polydetr.core.files import file_names
from polydetr.core.records import Record, access_of
from polydetr.engine.engine import Engine
from polydetr.engine.outputs import Answer
from polydetr.modalities.image import ImageModality
from polydetr.tasks.capabilities import FindsInImages, HasLabels

_LONGEST_NAME = 60


@dataclass(frozen=True)
class ShownImage:
    """A row's first image, which is opened as the model saw it when it is to be shown. name: of its file, "" where it
    has none.
    """

    modality: ImageModality
    column: str
    value: object
    access: FileAccess

    @property
    def name(self) -> str:
        return Path(self.value).name if isinstance(self.value, str | Path) else ""

    def open(self) -> Image:
        """Raises RowError where it cannot be read."""
        with self.modality.opened(self.value, self.column, access=self.access) as image:
            return image


def image_of(engine: Engine, record: Record) -> ShownImage | None:
    """The row's first image; None where it has none."""
    modality = engine.encoder.modalities.get("image")
    first = modality.first_image(record.row) if isinstance(modality, ImageModality) else None
    return ShownImage(modality, *first, access_of(record)) if first is not None else None  # type: ignore[arg-type]


def draw_answer(engine: Engine, answer: Answer, folder: Path) -> list[Path]:
    """A JPEG for each target that answers with boxes, in ``folder`` and nowhere else, by the row's number and the names
    of image and target.

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
    name = f"-{Path(image.name).stem[:_LONGEST_NAME]}" if image.name else ""
    shown, files = image.open(), file_names(targets)
    folder.mkdir(parents=True, exist_ok=True)
    for target in targets:
        of = f"-{files[target]}" if len(targets) > 1 else ""
        task = engine.tasks[target]
        colors = label_colors(task.labels if isinstance(task, HasLabels) else ())
        path = folder / f"{answer.row:05d}{name}{of}.jpg"
        drawn.append(save_boxes(path, shown, answer.predictions[target].value, colors=colors))
    return drawn
