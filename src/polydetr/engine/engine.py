"""From rows to answers, in order, in constant memory: encode → outputs → answers. Evaluation, prediction, explanation
and serving all take these three steps; only the one in the middle, the forward pass, is exchangeable.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Literal, get_args

from polydetr.core.ahead import ahead
from polydetr.core.documents import EncodedDocument
from polydetr.core.predictions import RowResult
from polydetr.core.records import Record
from polydetr.core.runner import Outputs, Runner
from polydetr.engine.encode import RowEncoder, Strictness
from polydetr.errors import ConfigError, RowError, did_you_mean, quoted
from polydetr.modalities.base import Modality
from polydetr.tasks.base import Task

CHUNK_TOKENS = 16_384
"""Tokens that are encoded before the runner computes them: enough to sort by length, and a bound on memory."""
CHUNK_DOCUMENTS = 2048
"""Documents (and rejected rows) held at most, however short they are."""

OnError = Literal["raise", "return"]
Item = EncodedDocument | RowResult
"""A document, or the result of a row that was rejected, in its place."""


class Engine:
    """An encoder, a runner and tasks: all that it takes to answer rows."""

    def __init__(self, encoder: RowEncoder, runner: Runner, tasks: Mapping[str, Task]) -> None:
        self.encoder, self.runner, self.tasks, self.seed = encoder, runner, dict(tasks), 0

    @classmethod
    def of(
        cls, modalities: Mapping[str, Modality], tasks: Mapping[str, Task], runner: Runner, *, context: bool
    ) -> Engine:
        """Puts one together; context: whether neighboring rows of a document are read together."""
        return cls(RowEncoder(modalities, tasks, context=context), runner, tasks)

    def with_strictness(self, strictness: Strictness) -> Engine:
        """A copy that treats unusual rows so (see ``RowEncoder``).

        Raises:
            ConfigError: there is no such strictness.
        """
        if strictness not in get_args(Strictness):
            raise ConfigError(
                f"strictness {strictness!r} is not known.", hint=did_you_mean(str(strictness), get_args(Strictness))
            )
        return self._with(encoder=self.encoder.with_strictness(strictness))

    def with_seed(self, seed: int) -> Engine:
        """A copy whose random draws, where a task makes some (generation), follow this seed.

        Raises:
            ConfigError: it is negative, or larger than any seed of a random generator.
        """
        if not 0 <= seed < 2**63:
            raise ConfigError(f"seed {quoted(seed)} is not a number from 0 to 2**63 - 1.")
        return self._with(seed=seed)

    def with_runner(self, runner: Runner) -> Engine:
        """A copy whose forward pass is computed by ``runner``."""
        return self._with(runner=runner)

    def only(self, target: str) -> Engine:
        """A copy that answers for this target alone."""
        return self._with(tasks={target: self.tasks[target]})

    def of_positives(self, target: str) -> Engine:
        """A copy that embeds a target's own values in place of the inputs (the positive side of an embedding)."""
        return self.only(target)._with(encoder=self.encoder.of_positives(target))

    def _with(self, **changed: object) -> Engine:
        other = copy.copy(self)
        vars(other).update(changed)
        return other

    # -- the three steps ----------------------------------------------------------------------------------------------

    def encode(
        self, records: Iterable[Record], *, with_targets: bool = False, on_error: OnError = "raise"
    ) -> Iterator[Item]:
        """Rows as documents, in order.

        with_targets: also what the rows' labels are, for measuring. on_error: "raise" stops at the first row that
        cannot be read; "return" gives it as a result with its error.

        Raises:
            RowError: a row cannot be read and ``on_error`` is "raise".
        """

        def encode(group: list[Record]) -> list[Item]:
            return list(self._encode(group, with_targets=with_targets, on_error=on_error))

        for items in ahead(encode, self.encoder.documents(records), workers=self.encoder.workers):
            yield from items

    def outputs(self, documents: Sequence[EncodedDocument], *, first: int = 0) -> list[list[Outputs]]:
        """Document → window → target → named arrays.

        first: windows already answered in this run; what is drawn at random depends on a window's number in it.
        """
        examples = [example for document in documents for example in document.examples]
        numbers = range(first, first + len(examples))
        each = iter(self.runner.run(examples, list(self.tasks), seed=self.seed, numbers=numbers) if examples else ())
        return [[next(each) for _ in document.examples] for document in documents]

    def answers(
        self, documents: Sequence[EncodedDocument], outputs: Sequence[Sequence[Outputs]]
    ) -> Iterator[RowResult]:
        """One result per row of the documents, in order."""
        for document, windows in zip(documents, outputs, strict=True):
            decoded = {
                target: task.decode([window[target] for window in windows], document.layouts, document.texts)
                for target, task in self.tasks.items()
            }
            for i, record in enumerate(document.records):
                yield RowResult(
                    record,
                    {target: predictions[i] for target, predictions in decoded.items()},
                    document.texts[i] if document.texts else None,
                    warnings=document.warnings,
                    golds={target: golds[i] for target, golds in document.golds.items()},
                )

    # -- their composition --------------------------------------------------------------------------------------------

    def run(
        self, records: Iterable[Record], *, with_targets: bool = False, on_error: OnError = "raise"
    ) -> Iterator[RowResult]:
        """One result per row, in the order of the rows; see ``encode``.

        Raises:
            RowError: a row cannot be read and ``on_error`` is "raise".
        """
        return self.answered(self.encode(records, with_targets=with_targets, on_error=on_error))

    def answered(self, items: Iterable[Item]) -> Iterator[RowResult]:
        """One result per row of documents that were encoded before, a chunk of them in memory at a time."""
        pending: list[Item] = []
        tokens = first = 0
        for item in items:
            pending.append(item)
            tokens += item.num_tokens if isinstance(item, EncodedDocument) else 0
            if tokens >= CHUNK_TOKENS or len(pending) >= CHUNK_DOCUMENTS:
                yield from self._answered(pending, first)
                first += sum(len(item.examples) for item in pending if isinstance(item, EncodedDocument))
                pending, tokens = [], 0
        yield from self._answered(pending, first)

    def _answered(self, items: Sequence[Item], first: int) -> Iterator[RowResult]:
        documents = [item for item in items if isinstance(item, EncodedDocument)]
        results = self.answers(documents, self.outputs(documents, first=first))
        for item in items:
            if isinstance(item, RowResult):
                yield item
            else:
                yield from (next(results) for _ in item.records)

    # -- documents with rows that cannot be read ----------------------------------------------------------------------

    def _encode(self, group: list[Record], *, with_targets: bool, on_error: OnError) -> Iterator[Item]:
        try:
            yield self.encoder.encode(group, with_targets=with_targets)
        except RowError as error:
            if on_error == "raise":
                raise
            if len(group) == 1:
                yield RowResult(group[0], {}, error=error)
            else:
                yield from self._encode_around_faults(group, with_targets=with_targets)

    def _encode_around_faults(self, group: list[Record], *, with_targets: bool) -> Iterator[Item]:
        """The rows between two that cannot be read stay one document: a bad row rejects none of its neighbors."""
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
