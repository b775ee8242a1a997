"""The forward pass by PyTorch: examples in, each one's outputs out, in NumPy."""

from __future__ import annotations

import copy
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from polydetr.core.ahead import ahead_in
from polydetr.core.examples import Arrays, Example
from polydetr.core.memory import keep_freed_memory
from polydetr.core.runner import Outputs
from polydetr.data.batching import token_budget_batches
from polydetr.errors import PolydetrError
from polydetr.model.masters import Masters
from polydetr.model.model import PolyModel
from polydetr.model.sharing import share
from polydetr.nn.batch import Batch
from polydetr.nn.cpu.threads import single_threaded_pool, waits_asleep

if TYPE_CHECKING:
    from polydetr.engine.engine import Engine
    from polydetr.model.insides import TorchInsides

Listener = Callable[[Mapping[str, Mapping[str, Tensor]], Batch], None]
"""Takes the outputs of a batch, target → named tensors, and the batch itself."""
SMALL = 256
"""Tokens that one thread is done with before threads that sleep at every operation are woken for them."""
_Forwarded = tuple[list[int], Batch, Mapping[str, Mapping[str, Tensor]]]


class TorchRunner:
    """A ``core.runner.Runner`` over a model, which it expects in evaluation mode.

    On a CPU with several cores it computes one batch per core, each on a single thread of a pool of its own. The cores
    then wait for one another once at the end, not at every operation of the model, of which each would take as long as
    the slower core, and other programs take a core away now and then. The process's own number of threads is read
    once, when the runner is made, and never changed. In a forked process it computes on the thread that asks
    (``nn.cpu.threads``).

    batch_tokens: padded tokens per batch, at most.
    """

    runtime = "torch"

    def __init__(self, model: PolyModel, *, batch_tokens: int = 1024) -> None:
        keep_freed_memory()
        self.model, self.batch_tokens = model, batch_tokens
        self.threads = torch.get_num_threads()
        self.masters: Masters | None = None
        """The weights as a folder keeps them, where they were trained or loaded."""
        self._listener: Listener | None = None
        self._pool: ThreadPoolExecutor | None = None
        self._process = os.getpid()
        self.precision = "fp32"
        """As it was loaded."""

    @property
    def computes_on(self) -> str:
        """See ``core.runner.SizedRunner``."""
        device = next(self.model.parameters()).device
        name = torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
        return f"torch {torch.__version__}, {name}"

    def listened_by(self, listener: Listener) -> TorchRunner:
        """A runner over the same model that passes every batch and its outputs to ``listener`` before they become
        NumPy (for losses, calibration); in this thread, batch after batch.
        """
        other = copy.copy(self)
        other._listener = listener
        return other

    def sized(self, *, threads: int, batch_tokens: int) -> TorchRunner:
        """See ``core.runner.SizedRunner``."""
        other = copy.copy(self)
        other.threads, other.batch_tokens, other._pool = threads, batch_tokens, None
        return other

    def insides(self, engine: Engine) -> TorchInsides:
        """What explanations see inside the model (``explain.insides``)."""
        from polydetr.model.insides import TorchInsides

        return TorchInsides.of(engine, self.model)

    def share_weights(self, known: dict[Any, Any]) -> None:
        """See ``core.runner.SharesWeights``."""
        share(self.model, known)

    def batch(self, examples: Sequence[Example], numbers: Sequence[int] | None = None, *, seed: int = 0) -> Batch:
        """The examples side by side, where the model computes."""
        return Batch.collate(examples, numbers, seed=seed).to(next(self.model.parameters()).device)

    def run(
        self, examples: Sequence[Example], targets: Sequence[str], *, seed: int, numbers: Sequence[int]
    ) -> list[Outputs]:
        """See ``core.runner.Runner``.

        Raises:
            PolydetrError: the model lies on a GPU, and this process was forked from the one that loaded it.
        """
        results: list[dict[str, Arrays]] = [{} for _ in examples]
        tokens = [e.num_tokens for e in examples]
        batches = token_budget_batches(tokens, self.batch_tokens, seed=None)
        device = next(self.model.parameters()).device
        if device.type == "cuda" and self._process != os.getpid():
            raise PolydetrError(
                "a model on a GPU cannot answer in a process that was forked after it was loaded.",
                hint="Start the processes with spawn, or load the model in each of them.",
            )

        def forward(ids: list[int]) -> _Forwarded:
            with torch.inference_mode():  # of each thread
                batch = self.batch([examples[i] for i in ids], [numbers[i] for i in ids], seed=seed)
                return ids, batch, self.model(batch, targets)

        with torch.inference_mode():
            for ids, batch, outputs in self._side_by_side(forward, batches, device, small=sum(tokens) <= SMALL):
                if self._listener is not None:
                    self._listener(outputs, batch)
                for target, tensors in outputs.items():
                    arrays = {name: tensor.float().cpu().numpy() for name, tensor in tensors.items()}
                    for row, i in enumerate(ids):
                        results[i][target] = {name: array[row] for name, array in arrays.items()}
        return list[Outputs](results)

    def _side_by_side(
        self,
        forward: Callable[[list[int]], _Forwarded],
        batches: Sequence[list[int]],
        device: torch.device,
        *,
        small: bool,
    ) -> Iterator[_Forwarded]:
        """``map`` in order."""
        one_at_a_time = len(batches) < 2 and not (batches and small and waits_asleep())
        if device.type != "cpu" or self.threads < 2 or one_at_a_time or self._process != os.getpid():
            return map(forward, batches)
        if self._pool is None:
            self._pool = single_threaded_pool(self.threads)
        return ahead_in(self._pool, forward, batches, window=2 * self.threads)
