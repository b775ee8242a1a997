"""An image for each row: painted patch by patch, out of noise, by the same attention that reads the row.

Flow matching (see ``nn.flow``): the patches of the half-painted image enter the shared encoder beside the row's own
tokens, and the head tells from what comes out which way each pixel has to go.

Shapes: B rows, C channels, S pixels per side, L patches, D ``embed_dim``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple, Self

import torch
from torch import Tensor, nn

from polydetr.heads.base import Attend, EncoderShape, Head
from polydetr.nn.batch import Embedded
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
from polydetr.tasks.generation import GenerationTask, time_and_noise

HIDE = 0.1
"""Share of the rows whose values are hidden in training, so that the model also knows images of no row at all: what
guidance is measured from (Ho & Salimans 2022, arXiv 2207.12598, algorithm 1).
"""


class Draws(NamedTuple):
    """What is left to chance: times (B,) from 0 to 1, noise (B, C, S, S), and which rows are hidden (B,), or None."""

    time: Tensor
    noise: Tensor
    hidden: Tensor | None = None


class GenerationHead(Head):
    """Half-painted images in, velocities out.

    shape: (channels, pixels per side); scale: (mean, standard deviation) of the training images' pixels, 0 … 255.
    """

    def __init__(
        self,
        embed_dim: int,
        *,
        shape: tuple[int, int],
        patch_size: int,
        scale: tuple[float, float],
        steps: int,
        guidance: float,
    ) -> None:
        super().__init__()
        self.patch_size, self.scale = patch_size, scale
        self.channels, self.size = shape
        self.steps, self.guidance = steps, guidance
        side, width = self.size // patch_size, self.channels * patch_size**2
        self.patches = nn.Linear(width, embed_dim)
        self.places = nn.Parameter(_places(side, embed_dim))
        self.time = TimeEmbedding(embed_dim)
        self.modulation = Modulation(embed_dim)
        self.output = nn.Linear(embed_dim, width)

    @classmethod
    def from_task(cls, task: GenerationTask, shape: EncoderShape, *, label_smoothing: float = 0.0) -> Self:
        return cls(
            shape.embed_dim, shape=(task.channels, task.size), patch_size=task.patch_size, scale=(task.mean, task.std),
            steps=task.options.sampling_steps, guidance=task.options.guidance,
        )  # fmt: skip

    # -- chance -------------------------------------------------------------------------------------------------------

    def draw(self, count: int) -> Draws:
        """For a training step, from the global generator of the device."""
        device = self.places.device
        time = logit_normal_times(count, device=device)
        noise = torch.randn(count, self.channels, self.size, self.size, device=device)
        return Draws(time, noise, torch.rand(count, device=device) < HIDE)

    def numbered_draws(self, numbers: Sequence[int], seed: int) -> Draws:
        """Of the seed and each row's number alone, the same on any device: so that scores can be compared and images be
        had again.
        """
        shape, device = (self.channels, self.size, self.size), self.places.device
        found = [time_and_noise(seed, number, shape) for number in numbers]
        time = torch.tensor([time for time, _ in found], dtype=torch.float32)
        noise = torch.stack([torch.from_numpy(noise) for _, noise in found])
        return Draws(time.to(device), noise.to(device))

    # -- one step, and what is made of it -----------------------------------------------------------------------------

    def forward(self, x: Tensor, time: Tensor, attend: Attend, hidden: Tensor | None = None) -> Tensor:
        """The velocity at x (B, C, S, S) and time (B,): (B, C, S, S), in float32 whatever the encoder computes in."""
        when = self.time(time)
        patches = patchify(x, self.patch_size).to(self.patches.weight.dtype)
        tokens = self.patches(patches) + self.places + when[:, None]
        mask = torch.ones(tokens.shape[:2], dtype=torch.bool, device=tokens.device)
        attended = attend(Embedded(tokens, mask), hidden)
        out = self.output(self.modulation(attended, when)).float()
        return unpatchify(out, self.patch_size, height=self.size, width=self.size)

    def outputs(self, attend: Attend, draws: Draws, targets: Mapping[str, Tensor] | None) -> dict[str, Tensor]:
        """With targets "velocity" and "wanted", (B, C, S, S) each; without them "pixels", in units of ``scale``."""
        if targets is None:
            return {"pixels": self._paint(attend, draws.noise)}
        data = (targets["pixels"].float() - self.scale[0]) / self.scale[1]
        found = self(interpolate(draws.noise, data, draws.time), draws.time, attend, draws.hidden)
        return {"velocity": found, "wanted": velocity(draws.noise, data)}

    def _paint(self, attend: Attend, noise: Tensor) -> Tensor:
        """From noise to images; with guidance every step looks twice, with the row and without it."""

        def field(x: Tensor, time: Tensor) -> Tensor:
            asked = self(x, time, attend)
            if self.guidance == 1.0:
                return asked
            everyone = torch.ones(x.shape[0], dtype=torch.bool, device=x.device)
            return guided(asked, self(x, time, attend, everyone), self.guidance)

        return solve(field, noise, steps=self.steps)

    def loss(self, outputs: Mapping[str, Tensor], targets: Mapping[str, Tensor], weights: Tensor) -> dict[str, Tensor]:
        weights = weights * targets["known"]
        per_row = (outputs["velocity"].float() - outputs["wanted"]).square().flatten(1).mean(1)
        return {"flow": (per_row * weights).sum() / weights.sum().clamp(min=1e-6)}


def _places(side: int, embed_dim: int) -> Tensor:
    """(side², D): where each patch stands, as waves of its row beside waves of its column; learned from there on."""
    half = embed_dim // 2
    index = torch.arange(side)[None]
    rows, columns = SinusoidalPositions(half)(index)[0], SinusoidalPositions(embed_dim - half)(index)[0]
    return torch.cat([rows.repeat_interleave(side, 0), columns.repeat(side, 1)], -1)
