"""What is varied where nothing was said: the keys that matter most for these tasks and backbones, near their defaults.

What the user wrote in the configuration stays as it is. Ranges are about a factor of five to either side, as wide as
results differ by and no wider: the less there is to try, the sooner something better is found.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator
from dataclasses import replace
from typing import Any

from polydetr.config.sections import Config
from polydetr.core.plugs import MODALITIES
from polydetr.errors import ConfigError
from polydetr.schema.spec import Schema
from polydetr.tuning.space import Dimension, Space, in_order, value_at

_CLASSES = frozenset({"classification", "tagging"})
_MANY_ROWS = 2000
"""From which larger networks without a pretrained backbone are tried."""
_TUNED = {"training.freeze_backbones": (False,)}
_BY_STEPS = {"training.few_rows": (False,)}


def default_space(
    config: Config, schema: Schema, *, pretrained: Collection[str], rows: int, few_rows: bool,
    given: Collection[str] = (),
) -> Space:  # fmt: skip
    """The space for these tasks, modalities and rows.

    pretrained: the modalities that a pretrained backbone reads; rows: for training; few_rows: whether the default is
    trained as few rows are (``training.few_rows``); given: keys that the user set, which stay as they are.

    Raises:
        ConfigError: everything that would be varied is set already.
    """
    found = [
        _around(dimension, config)
        for dimension in _proposed(config, schema, pretrained=frozenset(pretrained), rows=rows, few_rows=few_rows)
        if dimension.key not in given
    ]
    keys = {dimension.key for dimension in found}
    kept = [
        replace(d, when={key: values for key, values in d.when.items() if key in keys})
        for d in found
        if all(key in keys or value_at(config, key) in values for key, values in d.when.items())
    ]
    if not kept:
        raise ConfigError(
            "there is nothing to search: everything that is varied by default is set in the configuration.",
            hint="Write search: with the keys to vary, or leave out settings.",
        )
    return Space(in_order(kept)[0], config)


def _proposed(
    config: Config, schema: Schema, *, pretrained: frozenset[str], rows: int, few_rows: bool
) -> Iterator[Dimension]:
    tasks = {target.task for target in schema.targets}
    kinds = {field.modality for field in schema.inputs}
    modalities = {name for name, modality in MODALITIES.items() if kinds & set(modality.reads)}
    scratch = modalities - pretrained
    if few_rows:
        yield Dimension("training.few_rows", choices=(None, False))
    when = _BY_STEPS if few_rows else {}
    yield _range("training.head_lr", config.training.head_lr, 5.0, when=when)
    if pretrained:
        yield from _of_backbones(config, tasks, when)
    if scratch or not pretrained:
        yield from _of_scratch(modalities, scratch, rows, joined=not pretrained)
    if len(modalities) > 1:
        yield Dimension("training.modality_dropout", choices=(0.0, 0.1, 0.2), when=when)
    if "image" in modalities:
        yield Dimension("image.augment.crop", choices=(0.5, 0.7, 0.9), when=when)
    if tasks & _CLASSES:
        yield Dimension("training.label_smoothing", choices=(0.0, 0.05, 0.1), when=when)
    yield Dimension("training.weight_decay", low=1e-4, high=0.3, log=True, when=when)
    if rows >= _MANY_ROWS and "detection" not in tasks:  # fewer come in the batches that ``training.pacing`` finds
        yield Dimension("training.batch_tokens", choices=(512, 1024, 2048), when=when)


def _of_backbones(config: Config, tasks: set[str], when: dict[str, tuple[Any, ...]]) -> Iterator[Dimension]:
    """Over a pretrained backbone: how far it follows the rows."""
    tuned = when | _TUNED
    if "detection" not in tasks:
        yield Dimension("training.freeze_backbones", choices=(False, True), when=when)
        yield Dimension("training.lora.rank", choices=(0, 8, 16), when=tuned)
    yield _range("training.lr", config.training.lr, 5.0, when=tuned)
    yield Dimension("training.layer_decay", choices=(0.75, 0.9, 1.0), when=tuned)
    if "classification" in tasks:
        yield Dimension("training.head_start", choices=(True, False), when=when)


def _of_scratch(modalities: set[str], scratch: set[str], rows: int, *, joined: bool) -> Iterator[Dimension]:
    """What random weights learn. joined: no backbone says how wide the encoder is."""
    if joined:
        yield Dimension("model.embed_dim", choices=(64, 128, 192) if rows >= _MANY_ROWS else (64, 128))
    yield Dimension("model.num_layers", choices=(1, 2, 3))
    yield Dimension("model.dropout", choices=(0.0, 0.1, 0.2, 0.3))
    if "table" in scratch:
        yield Dimension("table.numbers", choices=("quantile", "standard"))
        yield Dimension("table.embedding", choices=("periodic", "linear"))
        yield Dimension("table.column_dropout", choices=(0.0, 0.1, 0.2))
    if modalities == {"table"}:
        yield Dimension("model.additive", choices=(True, False))


def _range(key: str, middle: float, factor: float, *, when: dict[str, tuple[Any, ...]]) -> Dimension:
    low, high = (float(f"{value:.2g}") for value in (middle / factor, middle * factor))
    return Dimension(key, low=low, high=high, log=True, when=when)


def _around(dimension: Dimension, config: Config) -> Dimension:
    """With what the configuration has among the choices: the default is a point of its own space."""
    value = value_at(config, dimension.key)
    if not dimension.choices or value is None or dimension.drawn(value) is not None:
        return dimension
    return replace(dimension, choices=tuple(sorted({*dimension.choices, value}, key=json.dumps)))
