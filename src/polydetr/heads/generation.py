"""An image per row, generated from noise by flow matching (see ``core.flow``).

The patches of the noisy image enter the shared encoder beside the row's own tokens, and from the patches that come out
the head predicts the velocity of each pixel.

Shapes: B rows, C channels, S pixels per side, L patches, D ``embed_dim``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Self

import torch
from torch import Tensor, nn

from polydetr.core.flow import guided, interpolate, solve, velocity
from polydetr.heads.base import Attend, EncoderShape, Head, Tensors, weighted_mean
from polydetr.nn.batch import Embedded
from polydetr.nn.flow import Modulation, TimeEmbedding, logit_normal_times, patchify, unpatchify
from polydetr.nn.positions import SinusoidalPositions
from polydetr.tasks.generation import GenerationTask, time_and_noise

HIDE = 0.1
"""Share of the rows whose inputs are masked in training, so that the model also learns unconditional images, which
classifier-free guidance needs (Ho & Salimans 2022, arXiv 2207.12598, algorithm 1).
"""


class Draws(NamedTuple):
    """Random numbers: times (B,) from 0 to 1, noise (B, C, S, S), and which rows' inputs are masked, (B,) bool, or
    None.
    """

    time: Tensor
    noise: Tensor
    hidden: Tensor | None = None


class GenerationHead(Head):
    """Noisy images in, velocities out.

    shape: (channels, pixels per side); patch_size: pixels per side of a token; scale: (mean, standard deviation) of the
    training images' pixels, 0 … 255; steps: from noise to an image; guidance: see ``core.flow.guided``.
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

    # -- random numbers
    # -------------------------------------------------------------------------------------------------------

    def draw(self, count: int) -> Draws:
        """For a training step, from the global generator of the device."""
        device = self.places.device
        time = logit_normal_times(count, device=device)
        noise = torch.randn(count, self.channels, self.size, self.size, device=device)
        return Draws(time, noise, torch.rand(count, device=device) < HIDE)

    def numbered_draws(self, numbers: Sequence[int], seed: int) -> Draws:
        """A function of the seed and each row's number, the same on any device: scores are comparable and images
        reproducible.
        """
        shape, device = (self.channels, self.size, self.size), self.places.device
        draws = [time_and_noise(seed, number, shape) for number in numbers]
        time = torch.tensor([time for time, _ in draws], dtype=torch.float32)
        noise = torch.stack([torch.from_numpy(noise) for _, noise in draws])
        return Draws(time.to(device), noise.to(device))

    # -- one step, and the whole way -----------------------------------------------------------------------------

    def forward(self, x: Tensor, time: Tensor, attend: Attend, hidden: Tensor | None = None) -> Tensor:
        """The velocity at x (B, C, S, S) and time (B,): (B, C, S, S), in float32 whatever the encoder computes in."""
        when = self.time(time)
        patches = patchify(x, self.patch_size).to(self.patches.weight.dtype)
        tokens = self.patches(patches) + self.places + when[:, None]
        mask = torch.ones(tokens.shape[:2], dtype=torch.bool, device=tokens.device)
        attended = attend(Embedded(tokens, mask), hidden)
        out = self.output(self.modulation(attended, when)).float()
        return unpatchify(out, self.patch_size, height=self.size, width=self.size)

    def outputs(self, attend: Attend, draws: Draws, targets: Tensors | None) -> dict[str, Tensor]:
        """With targets "velocity" and "wanted", (B, C, S, S) each; without them "pixels", in units of ``scale``."""
        if targets is None:
            return {"pixels": self._generate(attend, draws.noise)}
        data = (targets["pixels"].float() - self.scale[0]) / self.scale[1]
        predicted = self(interpolate(draws.noise, data, draws.time), draws.time, attend, draws.hidden)
        return {"velocity": predicted, "wanted": velocity(draws.noise, data)}

    def _generate(self, attend: Attend, noise: Tensor) -> Tensor:
        """From noise to images; with guidance every step runs twice, with the row's inputs and without any."""

        def field(x: Tensor, at: float) -> Tensor:
            time = x.new_full((x.shape[0],), at, dtype=torch.float32)
            conditional = self(x, time, attend)
            if self.guidance == 1.0:
                return conditional
            all_rows = torch.ones(x.shape[0], dtype=torch.bool, device=x.device)
            return guided(conditional, self(x, time, attend, all_rows), self.guidance)

        return solve(field, noise, steps=self.steps)

    def loss(self, outputs: Tensors, targets: Tensors, weights: Tensor) -> dict[str, Tensor]:
        weights = weights * targets["known"]
        per_row = (outputs["velocity"].float() - outputs["wanted"]).square().flatten(1).mean(1)
        return {"flow": weighted_mean(per_row, weights)}

    def counted(self, targets: Tensors, weights: Tensor) -> Tensor:
        return (weights * targets["known"]).sum()


def _places(side: int, embed_dim: int) -> Tensor:
    """(side², D): the initial position embedding of each patch, sinusoids of its row beside those of its column."""
    half = embed_dim // 2
    index = torch.arange(side)[None]
    rows, columns = SinusoidalPositions(half)(index)[0], SinusoidalPositions(embed_dim - half)(index)[0]
    return torch.cat([rows.repeat_interleave(side, 0), columns.repeat(side, 1)], -1)
