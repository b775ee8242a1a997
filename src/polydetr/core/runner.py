"""What stands between encoding and decoding: the forward pass, whoever computes it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol, Self, runtime_checkable

from polydetr.core.examples import Arrays, Example

Outputs = Mapping[str, Arrays]
"""Target → named arrays, of one example, without the axis of the batch; an axis of tokens may end in padding."""


class Runner(Protocol):
    """The forward pass: examples in, the network's outputs for each out.

    ``run`` may be called from several threads at once, chooses its own batches, and changes nothing of the process
    around it (number of threads, gradient mode).
    """

    def run(
        self, examples: Sequence[Example], targets: Sequence[str], *, seed: int, numbers: Sequence[int]
    ) -> list[Outputs]:
        """One entry per example, in their order.

        examples: all of the same groups; what they hold decides which part of the network reads them: the inputs, or
            one side of an embedding alone. Where they hold what a target is measured by (``Example.targets``), its
            outputs are those that the loss reads.
        targets: those that are to be answered.
        seed, numbers: what is drawn at random for an example depends on the seed and on the example's number alone.
        """
        ...


@runtime_checkable
class SizedRunner(Runner, Protocol):
    """A runner whose speed depends on two sizes. runtime: what computes, a name of ``core.plugs.RUNNERS``; precision:
    in what, "fp32", "bf16" or "int8"; batch_tokens: padded tokens per batch, at most.
    """

    runtime: str
    batch_tokens: int
    precision: str

    @property
    def computes_on(self) -> str:
        """The library with its version, and the device: the speed depends on both."""
        ...

    @property
    def threads(self) -> int:
        """Batches computed side by side, at most."""
        ...

    def sized(self, *, threads: int, batch_tokens: int) -> Self:
        """The same with other sizes, no more ``threads`` than it has; the two share the model."""
        ...


@runtime_checkable
class SharesWeights(Protocol):
    """A runner whose weights may be those of another one in the same process, where they are equal to the bit: models
    that were trained on one frozen backbone.
    """

    def share_weights(self, known: dict[Any, Any]) -> None:
        """Uses what is ``known`` in place of its own, and adds what is new; holds nothing alive by it."""
        ...
