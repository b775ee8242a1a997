"""An image per row, generated from noise by flow matching (``heads.generation``). Here: what is learned of the training
images, the random numbers of a row, and how outputs become images.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
from pydantic import Field

from polydetr.core.access import FileAccess
from polydetr.core.examples import Arrays
from polydetr.core.files import save_bytes
from polydetr.core.layout import FieldText, Layouts
from polydetr.core.mistakes import Mistake
from polydetr.core.predictions import Details, Evaluation, Figures, Prediction
from polydetr.core.records import Row
from polydetr.core.tables import AnswerColumn, predicted
from polydetr.errors import ConfigError, Location, RowError
from polydetr.tasks.base import NOTHING_KNOWN, LearnedState, Task, TaskContext, TaskOptions, WindowView, details_of
from polydetr.values.decoding import MAX_PIXELS, ImageReading
from polydetr.values.files import find_file
from polydetr.values.framing import fit_image
from polydetr.values.images import deep_values, file_stamps, list_images, open_image, png_bytes
from polydetr.values.pixels import ALL_LEVELS, Levels

SAMPLE = 1000
"""Number of training images from which size, colors, mean and standard deviation are learned."""
LARGEST_OWN_SIZE = 64
"""Pixels per side up to which images are generated in the size of the training images."""
DEFAULT_SIZE = 32


class GenerationOptions(TaskOptions):
    image_size: int | None = Field(
        default=None,
        ge=4,
        le=256,
        description="pixels per side of generated images; default: their own up to 64, or 32",
    )
    patch_size: int | None = Field(
        default=None,
        ge=1,
        le=256,
        description="pixels per side of one token; default: of which an image has 64 or fewer",
    )
    sampling_steps: int = Field(default=12, ge=1, le=1000, description="steps from noise to an image")
    guidance: float = Field(
        default=1.25,
        ge=0,
        le=20,
        description="how closely an image is made to fit its row; 1 = as closely as the training images did",
    )


@dataclass(frozen=True)
class FlowDetails(Details):
    """Of a row that is measured: loss, the mean squared error of the velocity, and power, the velocity's mean square.
    None where an image was generated.
    """

    loss: float | None = None
    power: float | None = None


def time_and_noise(seed: int, number: int, shape: tuple[int, ...]) -> tuple[float, np.ndarray]:
    """A time, uniform from 0 to 1, and standard normal noise of this shape, float32: a function of a run's seed and of
    the number of a row in it.
    """
    generator = np.random.Generator(np.random.Philox([seed % 2**63, number]))
    return float(generator.random(dtype=np.float32)), generator.standard_normal(shape, dtype=np.float32)


class GenerationTask(Task):
    """Images of one size, in color or, where all training images are gray, in one channel."""

    kind: ClassVar[str] = "generation"
    primary_metric: ClassVar[str] = "flow_loss"
    lower_is_better: ClassVar[bool] = True

    class Learned(LearnedState):
        channels: Literal[1, 3]
        size: int = Field(ge=4, le=256)
        mean: float
        deviation: float = Field(gt=0)
        levels: list[float] = Field(default=[*ALL_LEVELS], min_length=2, max_length=2)
        max_pixels: int = Field(default=MAX_PIXELS, ge=1)

    Options = GenerationOptions
    options: GenerationOptions

    def __init__(self, target: str, options: GenerationOptions, *, context: TaskContext = NOTHING_KNOWN) -> None:
        super().__init__(target, options, context=context)
        self.channels, self.size = 3, options.image_size or DEFAULT_SIZE
        self.mean, self.std = 127.5, 64.0
        self.reading = ImageReading(max_pixels=context.max_pixels)

    # -- before training --------------------------------------------------------------------------------------------

    def learn(self, rows: Sequence[Row]) -> list[str]:
        present = [row for row in rows if list_images(row.get(self.target))]
        if not present:
            raise self.missing_everywhere("the images")
        every = max(1, len(present) // SAMPLE)
        chosen = present[::every][:SAMPLE]
        deep = [deep_values(list_images(row[self.target])[0], self.reading) for row in chosen]
        values = [sample for sample in deep if sample is not None and sample.dtype != np.uint8]
        if values:
            self.reading = replace(self.reading, levels=Levels.of(np.concatenate(values)))
        sample = [self._open(row) for row in chosen]
        sizes = {image.size for image in sample}
        self.size = self.options.image_size or _own_size(sizes) or DEFAULT_SIZE
        gray, means, squares = True, [], []
        for image in sample:
            pixels = fit_image(image, self.size, fit="stretch")
            gray = gray and bool((pixels == pixels[..., :1]).all())
            means.append(pixels.mean())
            squares.append(np.square(pixels, dtype=np.float64).mean())
        self.channels, self.mean = 1 if gray else 3, float(np.mean(means))
        self.std = max(1.0, float(np.mean(squares)) - self.mean**2) ** 0.5
        kind = f"{self.size} x {self.size} pixels, {'gray' if gray else 'color'}"
        message = f"images of {self.target!r}: {kind}, in {self.num_own_tokens} patches"
        return [message, *self.missing_in_some(present, rows)]

    @property
    def patch_size(self) -> int:
        """Pixels per side of one token: the option, or the smallest with which an image has at most 8 tokens per side.

        Raises:
            ConfigError: it does not divide the size.
        """
        if self.options.patch_size is None:
            return next(p for p in range(1, self.size + 1) if self.size % p == 0 and self.size // p <= 8)
        if self.size % self.options.patch_size:
            raise ConfigError(
                f"tasks.{self.target}.patch_size = {self.options.patch_size} does not divide the size of the images, "
                f"{self.size}",
                hint="Give another, or set image_size.",
            )
        return self.options.patch_size

    @property
    def num_own_tokens(self) -> int:
        return (self.size // self.patch_size) ** 2

    def located(self, row: Row, access: FileAccess) -> Row:
        value = row.get(self.target)
        if not isinstance(value, str | Path) or not str(value).strip():
            return row
        return {**row, self.target: find_file(value, access, column=self.target)}

    def content_key(self, rows: Sequence[Row]) -> str:
        digest = hashlib.sha256()
        for row in rows:
            digest.update("".join(file_stamps(row.get(self.target), ImageReading())).encode(errors="surrogatepass"))
        return digest.hexdigest()

    def _open(self, row: Row) -> Any:
        """The row's image, opened. Raises RowError where it has several, or one that cannot be read."""
        images = list_images(row[self.target])
        if len(images) != 1:
            raise RowError(
                f"{len(images)} images, expected one", location=Location(column=self.target), hint="Give one per row."
            )
        return open_image(images[0], column=self.target, reading=self.reading)

    def gold(self, row: Row, text: FieldText | None) -> np.ndarray | None:
        """The image as the model learns it, uint8 (C, S, S)."""
        if not list_images(row.get(self.target)):
            return None
        pixels = fit_image(self._open(row), self.size, fit="stretch")
        return np.ascontiguousarray(pixels.transpose(2, 0, 1)[: self.channels])

    def encode_target(self, view: WindowView) -> Arrays:
        gold = view.golds[0]
        empty = np.zeros((self.channels, self.size, self.size), dtype=np.uint8)
        return {"pixels": empty if gold is None else gold, "known": np.array(gold is not None, dtype=np.float32)}

    # -- answers ------------------------------------------------------------------------------------------------------

    def decode(self, outputs: Sequence[Arrays], layouts: Layouts, texts: Sequence[FieldText]) -> list[Prediction]:
        """An image, uint8 (H, W, C); where rows are measured, no image but the terms of the flow loss.

        Of a long text, which is read in windows, the first window decides.
        """
        first = outputs[0]
        if "pixels" not in first:
            error, power = (float(np.square(x).mean()) for x in (first["velocity"] - first["wanted"], first["wanted"]))
            return [Prediction(None, None, FlowDetails(error, power))]
        pixels = first["pixels"].transpose(1, 2, 0) * self.std + self.mean
        return [Prediction(np.rint(pixels).clip(0, 255).astype(np.uint8), None, FlowDetails())]

    def answer_schema(self) -> dict[str, Any]:
        return {"type": ["string", "null"], "description": "a PNG image as a data: URL"}

    def answer_columns(self, *, probabilities: bool = False) -> list[AnswerColumn]:
        """The name of the image's file, see ``to_json``."""
        return [predicted(self.target, "text")]

    def to_json(self, value: Any, *, file: Path | None = None) -> Any:
        """folder/name of the PNG file that is written, or without ``file`` the image itself as a data: URL.

        Raises:
            SaveError: the file cannot be written.
        """
        if value is None:
            return None
        content = png_bytes(value)
        if file is None:
            return "data:image/png;base64," + base64.b64encode(content).decode("ascii")
        path = save_bytes(file.with_name(f"{file.name}.png"), content)
        return f"{path.parent.name}/{path.name}"

    def evaluate(self, predictions: Sequence[Prediction], golds: Sequence[Any]) -> Evaluation:
        """flow_loss: mean squared error of the velocity, at a time and noise that are fixed for each row, so that it
        shows whether training makes progress and which weights are best. flow_explained: 1 - flow_loss / E|v|². The
        quality of images is measured by ``metrics.generation``.
        """
        details = [details_of(p, FlowDetails) for p, _ in self.labeled(predictions, golds)]
        losses = [d.loss for d in details if d.loss is not None]
        powers = [d.power for d in details if d.power is not None]
        if len(losses) < len(details):
            raise ValueError("images were generated, not measured: run the rows with their targets")
        loss, power = float(np.mean(losses)), float(np.mean(powers))
        return Evaluation({"flow_loss": loss, "flow_explained": 1.0 - loss / max(power, 1e-12)})

    @property
    def mistake_kinds(self) -> Mapping[str, str]:
        return {"unexplained": "Images whose noise the model tells apart worst, by the share of it that is left."}

    def mistakes(
        self, predictions: Sequence[Prediction], golds: Sequence[Any], figures: Figures
    ) -> Iterator[tuple[int, Mistake]]:
        for row, (prediction, gold) in enumerate(zip(predictions, golds, strict=True)):
            details = details_of(prediction, FlowDetails)
            if gold is None or details.loss is None or details.power is None:
                continue
            share = details.loss / max(details.power, 1e-12)
            note = f"{share:.0%} of the velocity is unexplained (flow loss {details.loss:.3g})"
            yield row, Mistake("unexplained", share, note=note, image=gold.transpose(1, 2, 0))

    # -- state ---------------------------------------------------------------------------------------------------------

    def learned(self) -> dict[str, Any]:
        reading = {"levels": list(self.reading.levels), "max_pixels": self.reading.max_pixels}
        return {"channels": self.channels, "size": self.size, "mean": self.mean, "deviation": self.std, **reading}

    def restore(self, state: Mapping[str, Any]) -> None:
        self.channels, self.size = state["channels"], state["size"]
        self.mean, self.std = state["mean"], state["deviation"]
        self.reading = ImageReading(levels=Levels(*state["levels"]), max_pixels=state["max_pixels"])


def _own_size(sizes: set[tuple[int, int]]) -> int | None:
    """The side that all images share, where it is small and divides into at most 8 patches per side; None otherwise."""
    if len(sizes) != 1:
        return None
    width, height = next(iter(sizes))
    whole = width <= 8 or any(width % n == 0 for n in (8, 7, 6, 5, 4))
    return width if width == height and width <= LARGEST_OWN_SIZE and whole else None
