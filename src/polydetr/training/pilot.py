"""How fast this machine reads, trains and answers right now, measured on a few of the rows and the model itself."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import TypeVar

import torch

from polydetr.config.sections import Config
from polydetr.core.documents import EncodedDocument
from polydetr.core.examples import Example
from polydetr.core.records import Record
from polydetr.data.batching import token_budget_batches
from polydetr.embedders.base import HasBackbone
from polydetr.errors import SchemaError
from polydetr.model.build import Assembly
from polydetr.model.precision import Precision, apply, choose_for_training
from polydetr.nn.cpu.threads import limited_to
from polydetr.tasks.capabilities import FindsInImages
from polydetr.training.encode import MeasuredRows, documents_of, measure
from polydetr.training.features import features_of
from polydetr.training.objective import total_loss
from polydetr.training.plan import ENOUGH_STEPS, Paces

_T = TypeVar("_T")

ROWS = 64
"""Rows at most that are tried."""
_TOKENS, _LEAST_TOKENS, _ANSWERED, _FEWER = 512, 64, 16, 4
"""Tokens of a batch that is tried, at most and at least; documents; examples that threads are tried on."""
_TURNS = 2
BUSY, CROWDED = 1.3, 4.0
"""Where one thread takes so many times as long as it computes, other programs compute too; where it takes so much
longer, no second thread is of use.
"""
FASTER = 1.2
"""Fewer threads are taken where they are so many times as fast."""
_UPDATE = 1.2
"""A step with the optimizer's update over one without."""


def spread(records: Sequence[Record], count: int) -> list[Record]:
    """So many records at equal distances."""
    return list(records[:: max(1, len(records) // count)][:count])


def measure_paces(
    assembly: Assembly, records: Sequence[Record], config: Config, *, seconds: float, left: float, slowness: float = 1.0
) -> tuple[Paces, int | None, Precision] | None:
    """What ``Paces`` holds, on the model as it is, in about ``seconds``; the number of threads that it was measured
    with, fewer than all where they are faster; and the precision, which the model is left in, with its
    weights. None where none of the rows tried can be read.

    left: seconds that training may take. Where the backbones alone are too slow for that, steps through them are not
    timed: they take about three times as long as the way forward. slowness: see ``Budget``, by which one thread is the
    choice where there is no time to find out, or nothing to be found out.

    Raises:
        RowError: a row cannot be read, and ``on_error`` is "raise".
    """
    ends = time.monotonic() + seconds
    documents, encode = _encoded(assembly, records, config, until=time.monotonic() + seconds / 4)
    examples = [example for document in documents for example in document.examples]
    rows = sum(len(document.records) for document in documents)
    if not examples:
        return None
    runner = assembly.runner
    few = max(2, int(8 / slowness))
    with limited_to(1 if slowness > BUSY else None):
        precision = choose_for_training(runner.model, config.training.precision, lambda: runner.batch(examples[:few]))
    apply(runner.model, precision)
    batch = _one_batch(examples, config.training.batch_tokens)
    tried = _one_batch(examples, min(config.training.batch_tokens, max(_LEAST_TOKENS, int(_TOKENS / slowness))))
    per_row = len(examples) / rows
    groups = backbone_groups(assembly)
    through_backbones = bool(groups) and may_freeze(assembly)

    def forward() -> None:
        features_of(runner, tried[:_FEWER], groups)

    def step() -> None:
        _step(assembly, tried)

    threads = _threads(forward if through_backbones else step, until=time.monotonic() + seconds / 4, slowness=slowness)
    ends = max(ends, time.monotonic() + seconds / 2)
    with limited_to(threads):
        features = head_step = a_step = 0.0
        if through_backbones:
            features, computed = _timed(lambda: features_of(runner, tried, groups), until=ends)
            features *= per_row / len(tried)
            head_step = _timed(lambda: _step(assembly, computed), until=ends)[0] * _UPDATE * per_row / len(tried)
            too_slow = 3 * features * len(batch) / per_row * ENOUGH_STEPS > left
            a_step = 3 * features + head_step if too_slow else 0.0
        a_step = a_step or _timed(step, until=ends)[0] * _UPDATE * per_row / len(tried)
        answer = _answer_pace(assembly, documents, until=max(ends, time.monotonic() + seconds / 4))
    paces = Paces(encode, answer * len(documents) / rows, features, a_step, head_step, len(batch) / per_row)
    return paces, threads, precision


def _threads(step: Callable[[], object], *, until: float, slowness: float) -> int | None:
    """How many threads a step is fastest with; None for as many as there are. Where measuring would take long, all of
    them, or one beside other programs: of threads that compute side by side all wait for the one that is held up.
    """
    all_of_them = torch.get_num_threads()
    fewer = sorted({count for count in (all_of_them // 2, 1) if 0 < count < all_of_them}, reverse=True)
    if slowness > CROWDED and fewer:
        return 1
    took = dict.fromkeys([*fewer, None], 0.0)
    for turn in range(_TURNS + 1):  # in turn, so that what other programs do meanwhile decides little
        for count in took:
            with limited_to(count):
                began = time.monotonic()
                step()
                took[count] += (time.monotonic() - began) if turn else 0.0  # the first one brings kernels and memory
            if time.monotonic() + took[count] > until:
                return 1 if slowness > BUSY and fewer else None
    best = min(fewer, key=took.__getitem__, default=None)
    return best if best is not None and FASTER * took[best] < took[None] else None


def may_freeze(assembly: Assembly) -> bool:
    """Whether backbones may stay frozen with their features computed once: not where boxes are found in finer ones."""
    return not any(isinstance(task, FindsInImages) for task in assembly.engine.tasks.values())


def backbone_groups(assembly: Assembly) -> list[str]:
    """The groups of inputs that pretrained backbones read."""
    modalities = assembly.engine.encoder.modalities
    embedders = assembly.model.embedders.items()
    return [n for n, e in embedders if isinstance(e, HasBackbone) and n in modalities and modalities[n].is_pretrained]


def _encoded(
    assembly: Assembly, records: Sequence[Record], config: Config, *, until: float
) -> tuple[list[EncodedDocument], float]:
    """Some rows encoded, ``ROWS`` of them at most, and seconds per row."""
    found: list[EncodedDocument] = []
    tried, began, chosen = 0, time.monotonic(), spread(records, ROWS)
    for size in (4, 12, 48):
        part, chosen = chosen[:size], chosen[size:]
        found += documents_of(assembly.engine, part, config, {"warnings": [], "rejected": []})
        tried += len(part)
        if not chosen or time.monotonic() > until:
            break
    return found, (time.monotonic() - began) / max(1, tried)


def _one_batch(examples: Sequence[Example], tokens: int) -> list[Example]:
    """The largest batch of so many tokens that these examples give."""
    batches = token_budget_batches([e.num_tokens for e in examples], tokens, seed=0)
    return [examples[i] for i in max(batches, key=len)]


def _timed(function: Callable[[], _T], *, until: float) -> tuple[float, _T]:
    """Seconds that it takes, and what it gives; the first turn, which also brings kernels and memory, counts only where
    time is short.
    """
    for turn in range(_TURNS):
        began = time.monotonic()
        found = function()
        took = time.monotonic() - began
        if turn + 1 == _TURNS or time.monotonic() + took > until:
            return took, found
    raise AssertionError


def _step(assembly: Assembly, examples: Sequence[Example]) -> None:
    """A training step without its update; weights, running statistics and random numbers stay what they were."""
    model = assembly.model
    buffers = {name: copy.deepcopy(buffer) for name, buffer in model.named_buffers()}
    with torch.random.fork_rng(enabled=True):
        model.train()
        try:
            batch = assembly.runner.batch(examples)
            total_loss(assembly, model(batch), batch).backward()
        finally:
            model.eval()
    model.zero_grad(set_to_none=True)
    with torch.no_grad():
        for name, buffer in model.named_buffers():
            buffer.copy_(buffers[name])


def _answer_pace(assembly: Assembly, documents: Sequence[EncodedDocument], *, until: float) -> float:
    """Seconds per document that is answered and measured: of two, then of more if there is time."""
    took, counts = 0.0, (2, _ANSWERED)
    for count in counts:
        some = documents[:count]
        if time.monotonic() + took * len(some) < until or not took:
            took = _timed(lambda some=some: _answer(assembly, some), until=until)[0] / len(some)
    return took


def _answer(assembly: Assembly, documents: Sequence[EncodedDocument]) -> None:
    with suppress(SchemaError):  # none of these rows has a label: answered they are
        measure(assembly.engine, MeasuredRows(documents, {}))
