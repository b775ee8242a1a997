"""The names of what goes into an exported graph and of what comes out: for those who write graphs and who run them.

Into a graph go ``<group>.<array>`` (``text.input_ids``, ``history.image.pixels``, …), with ``<group>.mask`` and
``<group>.positions``, each (B, L, …); out of it come ``<target>.<output>``. Neither the numbers of the examples nor a
seed is among them: random noise is an input.

A row that images are generated for is read once: its tokens before the shared encoder come out as ``tokens/<group>``
(B, L, D) with ``mask/<group>`` (B, L), and go into the graph of one step, beside ``NOISY`` and ``TIME``.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from polydetr.core.examples import PaddedGroup

NOISY, TIME = "noisy", "time"
"""What a step of generation reads beside the row: noisy images (B, C, S, S), and their times in 0 … 1 (B,)."""
TOKENS, MASK = "tokens/", "mask/"
"""The beginnings of the names of a row's tokens and of their mask."""
VELOCITY, UNCONDITIONAL = "velocity", "unconditional"
"""What a step gives: the velocity at the noisy images, (B, C, S, S), with the row's inputs and without any."""


def output_name(target: str, output: str) -> str:
    """The graph's name of one of a target's outputs; halves of characters in a column's name become escapes."""
    return f"{target}.{output}".encode("utf-8", "backslashreplace").decode()


def feeds_of(groups: Mapping[str, PaddedGroup]) -> dict[str, np.ndarray]:
    """The arrays of a batch by the names that a graph has for them."""
    feeds: dict[str, np.ndarray] = {}
    for name, group in groups.items():
        named = {**group.values, "mask": group.mask, "positions": group.positions}
        feeds |= {f"{name}.{array}": values for array, values in named.items()}
    return feeds
