"""Training with frozen backbones: their features of the rows are computed once and kept on disk, so that an epoch
costs only the layers above them.

The features stand in the examples in place of what they were made from, under the same group, so that the loop, the
model and the evaluation are the ones of every other run.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
from collections.abc import Collection, Iterator, Sequence

import torch

from polydetr.core.examples import Arrays, Example
from polydetr.core.files import cache_dir
from polydetr.data.batching import token_budget_batches
from polydetr.data.store import trim_cache
from polydetr.embedders.base import HasBackbone
from polydetr.errors import ConfigError
from polydetr.modalities.base import Notify
from polydetr.model.build import Assembly
from polydetr.model.model import PolyModel
from polydetr.model.runner import TorchRunner
from polydetr.nn.batch import Embedded, TokenGroup
from polydetr.training.budget import Budget
from polydetr.training.checkpoint import frozen_digest
from polydetr.training.encode import EncodedRows, MeasuredRows
from polydetr.training.plan import FEATURES_SHARE, LEAST_MEASURED, LEAST_TRAINED
from polydetr.training.row_store import kept_store, stored

_FORMAT = 3
"""Raised whenever other features would be written for the same rows: files made before are then not read."""
_AT_ONCE, _TOKENS_IN_TIME = 512, 2048
"""Examples whose features are computed and written together, which bounds memory; under a time limit the tokens of
these, which bound the time between two looks at the clock.
"""
MEASURED_SHARE = 0.15
"""Of the seconds for features and steps, what the features of validation rows may take, and of test rows."""


def freeze_backbones(model: PolyModel) -> list[str]:
    """Freezes everything that features depend on; returns the names of the groups concerned.

    Raises:
        ConfigError: no modality has a pretrained backbone.
    """
    frozen: list[str] = []
    for name, embedder in model.embedders.items():
        if not isinstance(embedder, HasBackbone):
            continue
        for part, parameter in embedder.named_parameters():
            if part.partition(".")[0] in embedder.frozen_with_backbone:
                parameter.requires_grad_(False)
                frozen.append(name)
    if not frozen:
        raise ConfigError("training.freeze_backbones: no modality of this model has a backbone", hint="Leave it out.")
    return list(dict.fromkeys(frozen))


def with_features(
    assembly: Assembly, rows: EncodedRows, *, notify: Notify, budget: Budget | None = None
) -> EncodedRows:
    """The rows of a run whose backbones are frozen: features in place of the tokens they are computed from. Under a
    time limit they are computed for as many of the training rows as it leaves time for.

    Raises:
        ConfigError: there is no backbone to freeze. SaveError: the features cannot be written.
    """
    model, modalities = assembly.model, assembly.engine.encoder.modalities
    groups = [name for name in freeze_backbones(model) if modalities[name].is_pretrained]
    model.eval()
    key = hashlib.sha256(f"{_FORMAT}{frozen_digest(model)}".encode()).hexdigest()[:16]
    folder = cache_dir() / "encoded"

    most = None if budget is None else _TOKENS_IN_TIME

    def features(examples: Iterator[Example]) -> Iterator[Example]:
        return _features(assembly.runner, examples, groups, most_tokens=most)

    def measured(part: MeasuredRows, name: str) -> MeasuredRows:
        if budget is None:
            return part.with_examples(features, notify=notify)
        seconds = MEASURED_SHARE * _left(budget)
        within = functools.partial(budget.within, name=f"featured {name}", seconds=seconds, least=LEAST_MEASURED)
        return part.with_examples(features, notify=notify, in_time=within)

    test = measured(rows.test, "test") if rows.test is not None else None
    valid = measured(rows.valid, "validation")
    name = f"{rows.train.path.stem}-{key}.arrow"
    train = kept_store(folder / name)
    if train is None:
        examples = (rows.train[i] for i in range(len(rows.train)))
        if budget is None:
            train = stored(lambda: features(examples), name, notify=notify)
        else:  # it may hold a part of the rows: no later run is to find it
            seconds = FEATURES_SHARE * _left(budget)
            in_time = budget.within(examples, "featured", seconds=seconds, least=min(LEAST_TRAINED, len(rows.train)))
            train = stored(lambda: features(in_time), notify=notify)
    trim_cache(folder, keep=train.path)
    return EncodedRows(train, valid, test)


def _left(budget: Budget) -> float:
    """Seconds for features and steps."""
    return max(1.0, budget.left() - budget.decided.get("plan", {}).get("measuring", 0.0))


def _features(
    runner: TorchRunner, examples: Iterator[Example], groups: Sequence[str], *, most_tokens: int | None
) -> Iterator[Example]:
    chunk: list[Example] = []
    tokens = 0
    for example in examples:
        chunk.append(example)
        tokens += example.num_tokens
        if len(chunk) == _AT_ONCE or (most_tokens is not None and tokens >= most_tokens):
            yield from features_of(runner, chunk, groups)
            chunk, tokens = [], 0
    if chunk:
        yield from features_of(runner, chunk, groups)


def features_of(runner: TorchRunner, chunk: Sequence[Example], groups: Sequence[str]) -> list[Example]:
    model = runner.model
    computed: dict[int, Example] = {}
    with torch.inference_mode():
        for ids in token_budget_batches([e.num_tokens for e in chunk], 1024, seed=None):
            batch = runner.batch([chunk[i] for i in ids])
            inputs = {name: _embedded(model, name, group, groups) for name, group in batch.groups.items()}
            sides = {t: _embedded(model, model.positive_side(t), g, groups) for t, g in batch.positives.items()}
            for row, i in enumerate(ids):
                old = chunk[i]
                groups_of_row = {name: _of_row(group, row, old.groups[name]) for name, group in inputs.items()}
                positives = {target: _of_row(group, row, old.positives[target]) for target, group in sides.items()}
                computed[i] = dataclasses.replace(old, groups=groups_of_row, positives=positives, cost=old.num_tokens)
    return [computed[i] for i in range(len(chunk))]


def _embedded(
    model: PolyModel, modality: str, group: TokenGroup, groups: Collection[str]
) -> tuple[Embedded, Collection[str]] | None:
    """The backbone's features of a group, and the names of the arrays that are read beside them; None for a group whose
    features are not computed beforehand.
    """
    embedder = model.embedders[modality]
    if modality not in groups or not isinstance(embedder, HasBackbone):
        return None
    return embedder.features(group), embedder.read_beside_features


def _of_row(embedded: tuple[Embedded, Collection[str]] | None, row: int, arrays: Arrays) -> Arrays:
    if embedded is None:
        return arrays
    group, beside = embedded
    features = group.tokens[row][group.mask[row]].float().cpu().numpy()
    return {"features": features, **{name: array for name, array in arrays.items() if name in beside}}
