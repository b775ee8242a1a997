"""From rows to predictions, in order, in constant memory. Evaluation, prediction and serving all run through
``Engine.run``.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TypeVar, get_args

import torch
from torch import Tensor

from polydetr.core.ahead import ahead
from polydetr.core.documents import EncodedDocument
from polydetr.core.examples import Arrays
from polydetr.core.predictions import RowResult
from polydetr.core.records import Record
from polydetr.data.batching import token_budget_batches
from polydetr.engine.encode import RowEncoder, Strictness
from polydetr.errors import ConfigError, RowError, did_you_mean
from polydetr.model.model import PolyModel
from polydetr.nn.batch import Batch
from polydetr.nn.cpu.attention import keep_freed_memory
from polydetr.tasks.base import Task

Outputs = Mapping[str, Mapping[str, Tensor]]
_T = TypeVar("_T")
_R = TypeVar("_R")
CHUNK_TOKENS = 16_384
"""Tokens encoded ahead before the model runs: enough to sort by length, and a bound on memory."""
CHUNK_DOCUMENTS = 2048
"""Documents (and rejected rows) held at most, however short they are."""


class Engine:
    """A model with its encoder and tasks, ready to answer."""

    def __init__(
        self, model: PolyModel, encoder: RowEncoder, tasks: Mapping[str, Task], *, batch_tokens: int = 1024
    ) -> None:
        keep_freed_memory()
        self.model = model
        self.encoder = encoder
        self.tasks = tasks
        self.batch_tokens = batch_tokens
        self.seed = 0

    def judging(self, strictness: Strictness) -> Engine:
        """This engine, or one beside it that judges rows differently (see ``RowEncoder``)."""
        if strictness not in get_args(Strictness):
            raise ConfigError(
                f"strictness {strictness!r} is not known.", hint=did_you_mean(str(strictness), get_args(Strictness))
            )
        if strictness == self.encoder.strictness:
            return self
        other = copy.copy(self)
        other.encoder = copy.copy(self.encoder)
        other.encoder.strictness = strictness
        return other

    def drawing(self, seed: int) -> Engine:
        """This engine, or one beside it that draws other answers where a task answers at random (generation)."""
        if seed == self.seed:
            return self
        other = copy.copy(self)
        other.seed = seed
        return other

    def answering(self, target: str) -> Engine:
        """One beside it that answers for this target alone."""
        other = copy.copy(self)
        other.tasks = {target: self.tasks[target]}
        return other

    def of_target(self, target: str) -> Engine:
        """One beside it that embeds a target's own values in place of the inputs (``HasPositive``)."""
        other = self.answering(target)
        other.encoder = self.encoder.of_target(target)
        return other

    def run(
        self,
        records: Iterable[Record],
        *,
        on_error: str = "raise",
        with_targets: bool = False,
        on_batch: Callable[[Outputs, Batch], None] | None = None,
    ) -> Iterator[RowResult]:
        """One result a row, in the order of the rows.

        on_error: "raise" stops at the first unreadable row; "return" yields it with its error.
        on_batch: sees every batch's raw outputs and targets (losses, calibration).

        Raises:
            RowError: a row cannot be read and ``on_error`` is "raise".
        """
        pending: list[EncodedDocument | RowResult] = []
        tokens = answered = 0

        def encode(group: list[Record]) -> list[EncodedDocument | RowResult]:
            return list(self._encode(group, on_error=on_error, with_targets=with_targets))

        for items in ahead(encode, self.encoder.documents(records), workers=self.encoder.workers):
            for item in items:
                pending.append(item)
                tokens += sum(e.num_tokens for e in item.examples) if isinstance(item, EncodedDocument) else 0
            if tokens >= CHUNK_TOKENS or len(pending) >= CHUNK_DOCUMENTS:
                yield from self._answer(pending, on_batch, answered)
                answered += sum(len(item.examples) for item in pending if isinstance(item, EncodedDocument))
                pending, tokens = [], 0
        yield from self._answer(pending, on_batch, answered)

    def _encode(
        self, group: list[Record], *, on_error: str, with_targets: bool
    ) -> Iterator[EncodedDocument | RowResult]:
        try:
            yield self.encoder.encode(group, with_targets=with_targets)
        except RowError as error:
            if on_error == "raise":
                raise
            if len(group) == 1:
                yield RowResult(group[0], {}, error=error)
            else:
                yield from self._encode_around_faults(group, with_targets=with_targets)

    def _encode_around_faults(
        self, group: list[Record], *, with_targets: bool
    ) -> Iterator[EncodedDocument | RowResult]:
        """One bad row must not take its neighbours along: the rows between two bad ones stay together."""
        good: list[Record] = []
        for record in group:
            try:
                self.encoder.encode([record], with_targets=with_targets)
                good.append(record)
            except RowError as error:
                if good:
                    yield self.encoder.encode(good, with_targets=with_targets)
                good = []
                yield RowResult(record, {}, error=error)
        if good:
            yield self.encoder.encode(good, with_targets=with_targets)

    def _answer(
        self,
        items: Sequence[EncodedDocument | RowResult],
        on_batch: Callable[[Outputs, Batch], None] | None,
        first_id: int,
    ) -> Iterator[RowResult]:
        documents = [item for item in items if isinstance(item, EncodedDocument)]
        outputs = iter(self._forward(documents, on_batch, first_id))
        for item in items:
            if isinstance(item, RowResult):
                yield item
                continue
            windows = next(outputs)
            decoded = {
                target: task.decode([w[target] for w in windows], item.layouts, item.texts, len(item.records))
                for target, task in self.tasks.items()
            }
            for i, record in enumerate(item.records):
                text = item.texts[i] if item.texts else None
                yield RowResult(record, {t: p[i] for t, p in decoded.items()}, text, warnings=item.warnings)

    def _forward(
        self,
        documents: Sequence[EncodedDocument],
        on_batch: Callable[[Outputs, Batch], None] | None,
        first_id: int,
    ) -> list[list[dict[str, Arrays]]]:
        """Per document, per window: target → named arrays (those with one entry a token may end in padding).

        first_id: examples already answered in this run; what is drawn at random depends on an example's number in it.
        """
        examples = [(d, e) for d, document in enumerate(documents) for e in document.examples]
        results: list[dict[str, Arrays]] = [{} for _ in examples]
        lengths = [e.num_tokens for _, e in examples]
        device = next(self.model.parameters()).device
        was_training = self.model.training
        if was_training:
            self.model.eval()
        batches = token_budget_batches(lengths, self.batch_tokens, seed=None) if examples else []

        def forward(ids: list[int]) -> tuple[list[int], Batch, Outputs]:
            with torch.inference_mode():  # of each thread
                numbers = [first_id + i for i in ids]
                batch = Batch.collate([examples[i][1] for i in ids], numbers, seed=self.seed).to(device)
                return ids, batch, self.model(batch, self.tasks)

        with torch.inference_mode():
            for ids, batch, outputs in side_by_side(forward, batches, on=device):
                if on_batch is not None:
                    on_batch(outputs, batch)
                for target, tensors in outputs.items():
                    arrays = {name: t.float().cpu().numpy() for name, t in tensors.items()}
                    for row, i in enumerate(ids):
                        results[i][target] = {name: a[row] for name, a in arrays.items()}
        if was_training:
            self.model.train()
        grouped: list[list[dict[str, Arrays]]] = [[] for _ in documents]
        for (document, _), result in zip(examples, results, strict=True):
            grouped[document].append(result)
        return grouped


def side_by_side(function: Callable[[_T], _R], items: Sequence[_T], *, on: torch.device) -> Iterator[_R]:
    """``map`` in order; on a CPU one item a core, each on a single thread.

    The cores then wait for one another once at the end, not at every operation of the model, of which each would take
    as long as the slower core, and other programs take a core away now and then.
    """
    threads = torch.get_num_threads()
    if on.type != "cpu" or threads < 2 or len(items) < 2:
        yield from map(function, items)
        return

    def alone(item: _T) -> _R:
        torch.set_num_threads(1)  # of this thread, but also what new ones begin with
        return function(item)

    try:
        yield from ahead(alone, items, workers=threads, window=2 * threads)
    finally:
        torch.set_num_threads(threads)
