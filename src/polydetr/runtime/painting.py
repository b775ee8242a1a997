"""Generation where a graph computes one step: the noise, the way from it to an image, and what measuring asks for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from polydetr.core.examples import Arrays
from polydetr.core.flow import guided, interpolate, solve, velocity
from polydetr.core.graphs import NOISY, TIME, UNCONDITIONAL, VELOCITY
from polydetr.runtime.sessions import Graph
from polydetr.tasks.generation import GenerationTask, time_and_noise


class Painter:
    """What ``heads.generation.GenerationHead.outputs`` computes, of a batch of B rows."""

    def __init__(self, task: GenerationTask, step: Graph) -> None:
        self.task, self.step = task, step

    def outputs(
        self, row: Mapping[str, np.ndarray], targets: Arrays | None, *, seed: int, numbers: Sequence[int]
    ) -> dict[str, np.ndarray]:
        """row: the rows' tokens and masks. With targets "velocity" and "wanted", (B, C, S, S) each; without them
        "pixels", in units of the training images' deviation.
        """
        shape = (self.task.channels, self.task.size, self.task.size)
        times, noises = zip(*(time_and_noise(seed, number, shape) for number in numbers), strict=True)
        noise = np.stack(noises)
        if targets is None:
            return {
                "pixels": solve(lambda x, at: self._field(row, x, at), noise, steps=self.task.options.sampling_steps)
            }
        time = np.array(times, dtype=np.float32)
        data = (targets["pixels"].astype(np.float32) - np.float32(self.task.mean)) / np.float32(self.task.std)
        found = self.step({**row, NOISY: interpolate(noise, data, time), TIME: time}, [VELOCITY])
        return {"velocity": found[VELOCITY], "wanted": velocity(noise, data)}

    def _field(self, row: Mapping[str, np.ndarray], x: np.ndarray, at: float) -> np.ndarray:
        time = np.full(len(x), at, dtype=np.float32)
        found = self.step({**row, NOISY: x, TIME: time}, self.step.outputs)
        if UNCONDITIONAL not in found:
            return found[VELOCITY]
        return guided(found[VELOCITY], found[UNCONDITIONAL], self.task.options.guidance)
