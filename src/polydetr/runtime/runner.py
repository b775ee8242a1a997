"""The forward pass by ONNX Runtime: examples in, each one's outputs out, in NumPy, without PyTorch."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from threading import Semaphore

import numpy as np

from polydetr.core.ahead import ahead_in
from polydetr.core.examples import Arrays, Example, PaddedGroup, collate
from polydetr.core.graphs import MASK, TOKENS, feeds_of
from polydetr.core.memory import keep_freed_memory
from polydetr.core.runner import Outputs
from polydetr.data.batching import token_budget_batches
from polydetr.errors import PolydetrError, listed
from polydetr.runtime.painting import Painter
from polydetr.runtime.sessions import Graph

Names = Mapping[str, tuple[str, str]]
"""A graph's name of an output → its target, and the output's own name."""
BATCH_TOKENS = 256
"""Padded tokens per batch: what the layers of such a batch pass on stays in a core's own cache. At 384 numbers per
token and with 2 MB, ONNX Runtime takes 1.25 times as long with 1,024."""
IMAGE_TOKENS = 512
"""The same where a batch has all cores."""
KEPT = 64 << 20
"""Bytes of freed buffers that stay with the process: those of usual batches, and not those of the largest one ever."""
_Batch = tuple[list[int], dict[str, dict[str, np.ndarray]]]


class OnnxRunner:
    """A ``core.runner.Runner`` over the graphs of an exported model.

    graphs: what goes in, by name → the graph that reads it, with what its outputs are. painters: by target, what
    generates its images. sides: by target, the modality that reads its positive side. batch_tokens: padded tokens per
    batch, at most.
    at_once: batches that are computed side by side at most, whoever asks for them: as many as there are cores where
    each is computed on a single thread, 1 where the graphs have all cores for themselves (``in_fork`` is False then: a
    forked process has none of its parent's threads, and would wait for them for ever).
    """

    runtime = "onnx"

    def __init__(
        self,
        graphs: Mapping[frozenset[str], tuple[Graph, Names]],
        painters: Mapping[str, Painter],
        sides: Mapping[str, str],
        *,
        at_once: int,
        in_fork: bool = True,
        batch_tokens: int = BATCH_TOKENS,
        precision: str = "fp32",
    ) -> None:
        keep_freed_memory(most=KEPT)
        self.graphs, self.painters, self.sides = dict(graphs), dict(painters), dict(sides)
        self.at_once, self.in_fork, self.batch_tokens, self.precision = at_once, in_fork, batch_tokens, precision
        self._pool = ThreadPoolExecutor(at_once, thread_name_prefix="polydetr")  # begins no thread before it is used
        self._free = Semaphore(at_once)
        self._process = os.getpid()

    @property
    def computes_on(self) -> str:
        """See ``core.runner.SizedRunner``."""
        import onnxruntime  # which the graphs have done by now

        return f"onnxruntime {onnxruntime.__version__}, cpu"

    @property
    def threads(self) -> int:
        """See ``core.runner.SizedRunner``."""
        return self.at_once

    def sized(self, *, threads: int, batch_tokens: int) -> OnnxRunner:
        """See ``core.runner.SizedRunner``."""
        return OnnxRunner(
            self.graphs, self.painters, self.sides, at_once=min(threads, self.at_once), in_fork=self.in_fork,
            batch_tokens=batch_tokens, precision=self.precision,
        )  # fmt: skip

    def run(
        self, examples: Sequence[Example], targets: Sequence[str], *, seed: int, numbers: Sequence[int]
    ) -> list[Outputs]:
        """See ``core.runner.Runner``.

        Raises:
            PolydetrError: no graph reads what the examples hold; or this process was forked from the one that loaded
                the model, and the graphs compute on threads of that one.
        """
        is_forked = self._process != os.getpid()
        if is_forked and not self.in_fork:
            raise PolydetrError(
                "this exported model cannot answer in a process that was forked after it was loaded.",
                hint="Start the processes with spawn, or load the model in each of them.",
            )
        results: list[dict[str, Arrays]] = [{} for _ in examples]
        batches = token_budget_batches([e.num_tokens for e in examples], self.batch_tokens, seed=None)

        def forward(ids: list[int]) -> _Batch:
            chosen, counted = [examples[i] for i in ids], [numbers[i] for i in ids]
            with nullcontext() if is_forked else self._free:  # perhaps held for ever by a thread of the parent's
                return ids, self._forward(chosen, targets, seed=seed, numbers=counted)

        one_by_one = is_forked or self.at_once < 2 or len(batches) < 2
        ahead = map(forward, batches) if one_by_one else ahead_in(self._pool, forward, batches, window=2 * self.at_once)
        for ids, outputs in ahead:
            for target, arrays in outputs.items():
                for row, i in enumerate(ids):
                    results[i][target] = {name: array[row] for name, array in arrays.items()}
        return list[Outputs](results)

    def _forward(
        self, examples: Sequence[Example], targets: Sequence[str], *, seed: int, numbers: Sequence[int]
    ) -> dict[str, dict[str, np.ndarray]]:
        """Target → named arrays of one batch, each beginning with B."""
        batch = collate(examples)
        outputs, row = self._graph_of(batch.groups, targets)
        for target, side in batch.positives.items():
            if target in outputs:
                positive, _ = self._graph_of({self.sides[target]: side}, [target])
                outputs[target]["positive"] = positive[target]["vector"]
        for target in targets:
            if target in self.painters:
                painter = self.painters[target]
                outputs[target] = painter.outputs(row, batch.targets.get(target), seed=seed, numbers=numbers)
        return {target: outputs[target] for target in targets if target in outputs}

    def _graph_of(
        self, groups: Mapping[str, PaddedGroup], targets: Iterable[str]
    ) -> tuple[dict[str, dict[str, np.ndarray]], dict[str, np.ndarray]]:
        """The targets' outputs, and the row's tokens where one of the targets is generated from them."""
        feeds = feeds_of(groups)
        known = self.graphs.get(frozenset(feeds))
        if known is None:
            raise PolydetrError(f"no graph of the exported model reads {listed(sorted(feeds))}.")
        graph, names = known
        wanted = set(targets)
        fetched = [name for name, (target, _) in names.items() if target in wanted]
        if wanted & self.painters.keys():
            fetched += [name for name in graph.outputs if name.startswith((TOKENS, MASK))]
        found = graph(feeds, fetched) if fetched else {}
        outputs: dict[str, dict[str, np.ndarray]] = {}
        for name, array in found.items():
            if name in names:
                target, output = names[name]
                outputs.setdefault(target, {})[output] = array
        return outputs, {name: array for name, array in found.items() if name not in names}
