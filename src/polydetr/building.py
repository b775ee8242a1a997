"""From a configuration and rows to an untrained model: schema → tasks → modalities → encoder → model."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence

import torch

from polydetr.backbones.scratch import scratch_backbone
from polydetr.backbones.text import TextBackbone, load_text_backbone
from polydetr.config import Config, TaskConfig
from polydetr.data.records import Record
from polydetr.encoding import RowEncoder
from polydetr.errors import BackboneError, ConfigError, RowError, SchemaError, did_you_mean
from polydetr.inference import Engine
from polydetr.layout import Row
from polydetr.modalities.base import Modality
from polydetr.modalities.text import TextModality, as_text
from polydetr.model import PolyModel
from polydetr.schema import Schema
from polydetr.spans import is_unspaced
from polydetr.tasks import TASKS, Task

Note = Callable[[str], None]


def build_engine(config: Config, schema: Schema, records: Sequence[Record], *, note: Note) -> Engine:
    """An engine with pretrained or random weights, its labels learned from ``records``.

    Raises:
        ConfigError, SchemaError, RowError, BackboneError: what does not fit, by name.
    """
    rows = [record.row for record in records]
    tasks = build_tasks(config, schema, records, note=note)
    modalities = build_modalities(config, schema, rows, tasks, note=note)
    torch.manual_seed(config.seed)
    model = PolyModel(modalities, tasks, config.model)
    model.load_pretrained(modalities)
    return Engine(model, RowEncoder(modalities, tasks, context=config.text.context), tasks)


def build_tasks(config: Config, schema: Schema, records: Sequence[Record], *, note: Note) -> dict[str, Task]:
    """One task a target, which has learned its label set."""
    targets = {spec.name: spec.task for spec in schema.targets}
    for name in config.tasks:
        if name not in targets:
            raise ConfigError(f"tasks.{name}: {name!r} is not a target. {did_you_mean(name, targets)}")
    tasks: dict[str, Task] = {}
    for target, kind in targets.items():
        if kind not in TASKS:
            raise SchemaError(f"task {kind!r} of target {target!r} does not exist. {did_you_mean(kind, TASKS)}")
        options = config.tasks.get(target, TaskConfig())
        check_options(target, TASKS[kind], options)
        task = TASKS[kind](target, options)
        task.label_smoothing = config.training.label_smoothing
        try:
            notes = task.learn([record.row for record in records])
        except RowError:
            faults = _unreadable(TASKS[kind], target, options, records)
            if config.on_error == "raise":
                raise next(iter(faults.values())) from None
            # Encoding the rows rejects these one by one; the label set is learned from the others.
            notes = task.learn([record.row for i, record in enumerate(records) if i not in faults])
        for line in notes:
            note(line)
        tasks[target] = task
    return tasks


def check_options(target: str, task: type[Task], options: TaskConfig) -> None:
    """Raises ConfigError where an option is set that the task does not heed."""
    heeded = task.options | {"loss_weight"}
    for name, value in options:
        if name not in heeded and value != TaskConfig.model_fields[name].default:
            raise ConfigError(
                f"tasks.{target}.{name} = {value!r}: the task {task.kind!r} has no such option",
                hint=f"It has {', '.join(sorted(heeded))}.",
            )


def _unreadable(kind: type[Task], target: str, options: TaskConfig, records: Sequence[Record]) -> dict[int, RowError]:
    """Learning sees all rows at once; this finds those it fails at, with their place."""
    faults = {}
    for i, record in enumerate(records):
        try:
            kind(target, options).learn([record.row])
        except RowError as error:
            location = dataclasses.replace(record.location, column=target)
            faults[i] = RowError(error.message, location=location, hint=error.hint)
        except SchemaError:
            pass  # one row alone never has two classes
    return faults


def build_modalities(
    config: Config, schema: Schema, rows: Sequence[Row], tasks: Mapping[str, Task], *, note: Note
) -> dict[str, Modality]:
    """One modality for each kind of input that the schema names."""
    fields = [spec.name for spec in schema.inputs if spec.modality == "text"]
    other = [spec for spec in schema.inputs if spec.modality not in ("text", "ignore")]
    for spec in other:
        note(f"column {spec.name!r} ({spec.modality}) is not read: this version reads text; name it as text to use it")
    if not fields:
        raise SchemaError(
            "no input column holds text", hint="Name one: inputs={'column': 'text'} or --input column:text."
        )
    fields = _windowed_last(fields, tasks)
    by_word = any(task.per_token for task in tasks.values())
    backbone = choose_backbone(config, fields, rows, by_word=by_word, note=note)
    return {"text": TextModality(fields, backbone, config=config.text, by_word=by_word)}


def _windowed_last(fields: list[str], tasks: Mapping[str, Task]) -> list[str]:
    """The field that token-level answers point into comes last: a passage after its question."""
    if any(task.kind == "qa" for task in tasks.values()):
        for name in ("context", "passage", "paragraph"):
            if name in fields:
                return [f for f in fields if f != name] + [name]
    return fields


def choose_backbone(
    config: Config, fields: Sequence[str], rows: Sequence[Row], *, by_word: bool, note: Note
) -> TextBackbone:
    """The named backbone; for "auto" one that fits the language, or random weights where none can be had."""
    name = config.backbone
    if name == "auto":
        name = suggest_backbone(fields, rows, by_word=by_word)
        try:
            backbone = load_text_backbone(name, report=note)
            note(f"backbone: {name} (chosen by the language of the text; name another with backbone=)")
            return backbone
        except BackboneError as error:
            note(f"backbone: none, random weights ({name} cannot be had: {error.message})")
            name = "none"
    if name != "none":
        return load_text_backbone(name, report=note)
    texts = readable_texts(fields, rows)
    width = config.model.embed_dim or 128
    return scratch_backbone(
        texts, vocab_size=config.text.vocab_size, hidden_dim=width, max_positions=config.text.max_tokens
    )


def suggest_backbone(fields: Sequence[str], rows: Sequence[Row], *, by_word: bool) -> str:
    """By the share of letters outside ASCII: an English backbone, or the multilingual one."""
    sample = "".join(text[:300] for text in readable_texts(fields, rows[:500]))
    letters = [c for c in sample if c.isalpha()]
    foreign = sum(1 for c in letters if ord(c) > 0x24F or is_unspaced(c)) / max(1, len(letters))
    if foreign > 0.02:
        return "e5-multilingual"
    return "e5-en-pt" if by_word else "minilm"


def readable_texts(fields: Sequence[str], rows: Sequence[Row]) -> Iterator[str]:
    """Every text there is; values that are none are left to encoding, which knows their place and what to do about
    them.
    """
    for row in rows:
        for field in fields:
            try:
                yield as_text(row.get(field), field=field).text
            except RowError:
                continue
