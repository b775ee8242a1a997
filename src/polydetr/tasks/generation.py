"""A picture for each row: painted patch by patch, out of noise, by the same attention that reads the row.

Flow matching (see ``nn.flow``): the patches of the half-painted picture enter the shared encoder beside the row's own
tokens, and the head tells from what comes out which way each pixel has to go.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from polydetr.config import TaskConfig
from polydetr.core.examples import Arrays
from polydetr.core.files import save_bytes
from polydetr.core.layout import FieldText, Layout
from polydetr.core.predictions import Evaluation, Prediction
from polydetr.core.records import Row
from polydetr.errors import ConfigError, Location, RowError, SchemaError
from polydetr.nn.batch import Batch, Embedded
from polydetr.nn.flow import (
    Modulation,
    TimeEmbedding,
    guided,
    interpolate,
    logit_normal_times,
    patchify,
    solve,
    unpatchify,
    velocity,
)
from polydetr.nn.positions import SinusoidalPositions
from polydetr.tasks.base import Attend, Task, WindowView
from polydetr.values.images import Reading, file_stamps, fit_image, list_images, open_image, png_bytes

LOOK_AT = 1000
"""Pictures from which size, colours, mean and deviation are learned."""
LARGEST_OWN_SIZE = 64
USUAL_SIZE = 32
HIDE = 0.1
"""Share of the rows whose values are hidden in training, so that the model also knows pictures of no row at all: what
guidance is measured from (Ho & Salimans 2022, arXiv 2207.12598, algorithm 1).
"""


class FlowHead(nn.Module):
    """Half-painted pictures in, velocities out; without pictures to learn from, it paints.

    shape: (channels, pixels a side); scale: (mean, deviation) of the pixels, 0 … 255, of the training pictures.
    Shapes: B rows, C channels, S pixels a side, L patches, D ``embed_dim``.
    """

    def __init__(
        self,
        embed_dim: int,
        *,
        target: str,
        shape: tuple[int, int],
        patch_size: int,
        scale: tuple[float, float],
        steps: int,
        guidance: float,
    ) -> None:
        super().__init__()
        self.target, self.patch_size, self.scale = target, patch_size, scale
        self.channels, self.size = shape
        self.steps, self.guidance = steps, guidance
        side, width = self.size // patch_size, self.channels * patch_size**2
        self.patches = nn.Linear(width, embed_dim)
        self.places = nn.Parameter(_places(side, embed_dim))
        self.time = TimeEmbedding(embed_dim)
        self.modulation = Modulation(embed_dim)
        self.output = nn.Linear(embed_dim, width)

    def forward(self, batch: Batch, attend: Attend) -> dict[str, Tensor]:
        """With targets "velocity" and "wanted", (B, C, S, S) each; without them "pixels", in units of ``scale``.

        In training time and noise are drawn from the global generator; otherwise from the batch's seed and each row's
        number, so that scores can be compared and pictures be had again.
        """
        targets = batch.targets.get(self.target)
        if targets is None:
            return {"pixels": self._paint(batch, attend)}
        data = (targets["pixels"].float() - self.scale[0]) / self.scale[1]
        hidden = None
        if self.training:
            time, noise = logit_normal_times(len(data), device=data.device), torch.randn_like(data)
            hidden = torch.rand(len(data), device=data.device) < HIDE
        else:
            time, noise = self._draws(batch)
        found = self._velocity(interpolate(noise, data, time), time, attend, hidden)
        return {"velocity": found, "wanted": velocity(noise, data)}

    def _velocity(self, x: Tensor, time: Tensor, attend: Attend, hidden: Tensor | None) -> Tensor:
        """x (B, C, S, S), time (B,) → (B, C, S, S), in float32 whatever the encoder computes in."""
        when = self.time(time)
        patches = patchify(x, self.patch_size).to(self.patches.weight.dtype)
        tokens = self.patches(patches) + self.places + when[:, None]
        mask = torch.ones(tokens.shape[:2], dtype=torch.bool, device=tokens.device)
        attended = attend(Embedded(tokens, mask), hidden)
        out = self.output(self.modulation(attended, when)).float()
        return unpatchify(out, self.patch_size, height=self.size, width=self.size)

    def _paint(self, batch: Batch, attend: Attend) -> Tensor:
        """From noise to pictures; with guidance every step looks twice, with the row and without it."""

        def field(x: Tensor, time: Tensor) -> Tensor:
            asked = self._velocity(x, time, attend, None)
            if self.guidance == 1.0:
                return asked
            everyone = torch.ones(len(x), dtype=torch.bool, device=x.device)
            return guided(asked, self._velocity(x, time, attend, everyone), self.guidance)

        _, noise = self._draws(batch)
        return solve(field, noise, steps=self.steps)

    def _draws(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """A time (B,) and noise (B, C, S, S) for each row, of the seed and the row's number alone; the same on any
        device.
        """
        times, noises = [], []
        for number in batch.example_ids:
            generator = torch.Generator().manual_seed((batch.seed * 1_000_003 + number) % 2**63)
            times.append(torch.rand((), generator=generator))
            noises.append(torch.randn(self.channels, self.size, self.size, generator=generator))
        device = self.places.device
        return torch.stack(times).to(device), torch.stack(noises).to(device)


def _places(side: int, embed_dim: int) -> Tensor:
    """(side², D): where each patch stands, as waves of its row beside waves of its column; learned from there on."""
    half = embed_dim // 2
    index = torch.arange(side)[None]
    rows, columns = SinusoidalPositions(half)(index)[0], SinusoidalPositions(embed_dim - half)(index)[0]
    return torch.cat([rows.repeat_interleave(side, 0), columns.repeat(side, 1)], -1)


class GenerationTask(Task):
    """Pictures of one size, in colour or, where all training pictures are grey, in one channel."""

    kind: ClassVar[str] = "generation"
    per_token: ClassVar[bool] = False
    primary_metric: ClassVar[str] = "flow_loss"
    lower_is_better: ClassVar[bool] = True
    options: ClassVar[frozenset[str]] = frozenset({"image_size", "patch_size", "sampling_steps", "guidance"})

    def __init__(self, target: str, config: TaskConfig) -> None:
        super().__init__(target, config)
        self.channels, self.size = 3, config.image_size or USUAL_SIZE
        self.mean, self.deviation = 127.5, 64.0

    # -- before training --------------------------------------------------------------------------------------------

    def learn(self, rows: Sequence[Row]) -> list[str]:
        present = [row for row in rows if list_images(row.get(self.target))]
        if not present:
            raise self.missing_everywhere("the pictures")
        every = max(1, len(present) // LOOK_AT)
        looked_at = [self._open(row) for row in present[::every][:LOOK_AT]]
        sizes = {picture.size for picture in looked_at}
        self.size = self.config.image_size or _own_size(sizes) or USUAL_SIZE
        grey, means, squares = True, [], []
        for picture in looked_at:
            pixels = fit_image(picture, self.size, fit="stretch")
            grey = grey and bool((pixels == pixels[..., :1]).all())
            means.append(pixels.mean())
            squares.append(np.square(pixels, dtype=np.float64).mean())
        self.channels, self.mean = 1 if grey else 3, float(np.mean(means))
        self.deviation = max(1.0, float(np.mean(squares)) - self.mean**2) ** 0.5
        kind = f"{self.size} x {self.size} pixels, {'grey' if grey else 'colour'}"
        notes = [f"pictures of {self.target!r}: {kind}, in {self.brings_tokens} patches"]
        if missing := len(rows) - len(present):
            notes.append(f"{missing} of {len(rows)} training rows have no {self.target!r}: they do not train it")
        return notes

    @property
    def patch_size(self) -> int:
        """Pixels a side of one token: as asked for, or the smallest of which a picture has no more than 64.

        Raises:
            ConfigError: it does not divide the size.
        """
        if self.config.patch_size is None:
            return next(p for p in range(1, self.size + 1) if self.size % p == 0 and self.size // p <= 8)
        if self.size % self.config.patch_size:
            raise ConfigError(
                f"tasks.{self.target}.patch_size = {self.config.patch_size} does not divide the size of the pictures, "
                f"{self.size}",
                hint="Give another, or set image_size.",
            )
        return self.config.patch_size

    @property
    def brings_tokens(self) -> int:
        return (self.size // self.patch_size) ** 2

    def located(self, row: Row, folder: Path | None) -> Row:
        value = row.get(self.target)
        text = str(value).strip() if isinstance(value, str | Path) else ""
        if folder is None or not text or text.startswith(("~", "data:")) or "://" in text:
            return row  # ``gold`` says what is wrong with an address
        return {**row, self.target: folder / text}

    def content_key(self, rows: Sequence[Row]) -> str:
        digest = hashlib.sha256()
        for row in rows:
            digest.update("".join(file_stamps(row.get(self.target), Reading())).encode(errors="surrogatepass"))
        return digest.hexdigest()

    def _open(self, row: Row) -> Any:
        """The row's picture, opened. Raises RowError where it has several, or one that cannot be read."""
        found = list_images(row[self.target])
        if len(found) != 1:
            raise RowError(
                f"{len(found)} pictures, expected one", location=Location(column=self.target), hint="Give one a row."
            )
        return open_image(found[0], column=self.target)

    def gold(self, row: Row, text: FieldText | None) -> np.ndarray | None:
        """The picture as it is learned, uint8 (C, S, S)."""
        if not list_images(row.get(self.target)):
            return None
        pixels = fit_image(self._open(row), self.size, fit="stretch")
        return np.ascontiguousarray(pixels.transpose(2, 0, 1)[: self.channels])

    def encode_target(self, view: WindowView) -> Arrays:
        gold = view.golds[0]
        empty = np.zeros((self.channels, self.size, self.size), dtype=np.uint8)
        return {"pixels": empty if gold is None else gold, "known": np.array(gold is not None, dtype=np.float32)}

    # -- tensors ------------------------------------------------------------------------------------------------------

    def build_head(self, embed_dim: int) -> nn.Module:
        return FlowHead(
            embed_dim, target=self.target, shape=(self.channels, self.size), patch_size=self.patch_size,
            scale=(self.mean, self.deviation), steps=self.config.sampling_steps, guidance=self.config.guidance,
        )  # fmt: skip

    def loss(self, outputs: Mapping[str, Tensor], targets: Mapping[str, Tensor], weights: Tensor) -> dict[str, Tensor]:
        weights = weights * targets["known"]
        per_row = (outputs["velocity"].float() - outputs["wanted"]).square().flatten(1).mean(1)
        return {"flow": (per_row * weights).sum() / weights.sum().clamp(min=1e-6)}

    # -- answers ------------------------------------------------------------------------------------------------------

    def decode(
        self, outputs: Sequence[Arrays], layouts: Sequence[Layout | None], texts: Sequence[FieldText], num_rows: int
    ) -> list[Prediction]:
        """A picture, uint8 (H, W, C); where rows are measured, what the flow loss is made of instead.

        A long text is read in windows: the first one speaks.
        """
        found = outputs[0]
        if "pixels" not in found:
            error, power = (float(np.square(x).mean()) for x in (found["velocity"] - found["wanted"], found["wanted"]))
            return [Prediction(None, None, {"flow_loss": error, "flow_power": power})]
        pixels = found["pixels"].transpose(1, 2, 0) * self.deviation + self.mean
        return [Prediction(np.rint(pixels).clip(0, 255).astype(np.uint8))]

    def to_json(self, value: Any, *, file: Path | None = None) -> Any:
        """folder/name of the PNG file written, or without ``file`` the picture itself as a data: address.

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
        """flow_loss: mean squared error of the velocity, at a time and noise that are fixed for each row; it tells
        whether training gets anywhere, and which weights are best. flow_explained: 1 - flow_loss / E|v|². How good
        pictures look is another matter: see ``metrics.generation``.
        """
        known = [p.details for p, g in zip(predictions, golds, strict=True) if g is not None]
        if not known:
            raise SchemaError(f"no row has a value for target {self.target!r}: nothing to measure")
        if not all("flow_loss" in details for details in known):
            raise ValueError("pictures were painted, not measured: run the rows with their targets")
        loss, power = (float(np.mean([details[name] for details in known])) for name in ("flow_loss", "flow_power"))
        return Evaluation({"flow_loss": loss, "flow_explained": 1.0 - loss / max(power, 1e-12)})

    # -- state ---------------------------------------------------------------------------------------------------------

    def learned(self) -> dict[str, Any]:
        return {"channels": self.channels, "size": self.size, "mean": self.mean, "deviation": self.deviation}

    def restore(self, state: Mapping[str, Any]) -> None:
        self.channels, self.size = int(state["channels"]), int(state["size"])
        self.mean, self.deviation = float(state["mean"]), float(state["deviation"])


def _own_size(sizes: set[tuple[int, int]]) -> int | None:
    """The side that all pictures have, where it is small and cuts into 8 patches or fewer a side."""
    if len(sizes) != 1:
        return None
    width, height = next(iter(sizes))
    whole = width <= 8 or any(width % n == 0 for n in (8, 7, 6, 5, 4))
    return width if width == height and width <= LARGEST_OWN_SIZE and whole else None
