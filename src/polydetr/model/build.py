"""From a configuration and rows to an untrained model: schema → tasks → modalities → encoder → model."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from polydetr.config.sections import Config
from polydetr.core.access import IN_MEMORY, FileAccess
from polydetr.core.plugs import MODALITIES, TASKS
from polydetr.core.records import Record, Row, access_of
from polydetr.engine.encode import task_row
from polydetr.engine.engine import Engine
from polydetr.errors import ConfigError, RowError, SchemaError, did_you_mean
from polydetr.fetch.catalog import BACKBONES
from polydetr.modalities.base import BuildContext, HoldsItems, Modality, Needs, Notify
from polydetr.model.model import PolyModel
from polydetr.model.runner import TorchRunner
from polydetr.schema.spec import FieldSpec, Schema
from polydetr.tasks.base import DecoderOptions, DecoderSizes, Task, TaskContext, TaskOptions
from polydetr.tasks.capabilities import HasPositive
from polydetr.tasks.options import old_keys, read_options


@dataclass(frozen=True)
class Assembly:
    """A model, the runner over it, and the engine that predicts through the runner."""

    model: PolyModel
    engine: Engine
    runner: TorchRunner


def build_model(
    config: Config, schema: Schema, records: Sequence[Record], *, notify: Notify,
    states: Mapping[str, Mapping[str, Any]] = {},
) -> Assembly:  # fmt: skip
    """A fresh model with pretrained or random weights, in evaluation mode, its labels learned from ``records``.

    notify: takes the messages about what was inferred or left out. states: target → what its task has learned and how
    it was calibrated, in place of what it learns here. Raises:
        ConfigError, SchemaError, RowError, BackboneError: what does not fit, by name.
    """
    rows = [record.row for record in records]
    tasks = build_tasks(config, schema, records, notify=notify)
    for target, state in states.items():
        tasks[target].take(state)
    access = access_of(records[0]) if records else IN_MEMORY
    modalities = build_modalities(config, schema, rows, tasks, notify=notify, access=access)
    torch.manual_seed(config.seed)
    model = PolyModel(modalities, tasks, config.model, label_smoothing=config.training.label_smoothing)
    model.load_pretrained(modalities)
    if "text" in modalities:
        model.name_labels(tasks, modalities["text"])
    runner = TorchRunner(model.eval())
    engine = Engine.of(modalities, tasks, runner, context=config.text.context)
    return Assembly(model, engine, runner)


def build_tasks(config: Config, schema: Schema, records: Sequence[Record], *, notify: Notify) -> dict[str, Task]:
    """One task per target, which has learned its label set."""
    options = read_options(config, schema)
    for message in old_keys(config, schema):
        notify(message)
    context = _context(config, schema, options)
    tasks: dict[str, Task] = {}
    for spec in schema.targets:
        target, kind = spec.name, TASKS[spec.task]
        task = kind(target, options[target], context=context)
        try:
            messages = task.learn([task_row(task, record) for record in records])
        except RowError:
            faults = _unreadable(kind, target, options[target], context, records)
            if config.on_error == "raise":
                raise next(iter(faults.values())) from None
            # Encoding the rows rejects these one by one; the label set is learned from the others.
            messages = task.learn([task_row(task, record) for i, record in enumerate(records) if i not in faults])
        for message in messages:
            notify(message)
        tasks[target] = task
    return tasks


def _context(config: Config, schema: Schema, options: Mapping[str, TaskOptions]) -> TaskContext:
    decoder = None
    if config.model.share_decoder:
        decoders = [one for one in options.values() if isinstance(one, DecoderOptions)]
        widths = (one.hidden_dim for one in decoders if one.hidden_dim is not None)
        layers = (one.decoder_layers for one in decoders if one.decoder_layers)
        decoder = DecoderSizes(next(widths, None), next(layers, None))
    return TaskContext(
        tuple(spec.modality for spec in schema.inputs), decoder, config.image.augment.mix,
        config.training.freeze_backbones, config.image.max_pixels,
    )  # fmt: skip


def _unreadable(
    kind: type[Task], target: str, options: TaskOptions, context: TaskContext, records: Sequence[Record]
) -> dict[int, RowError]:
    """The rows that the task cannot learn from, by their index: tried one by one, as learning sees all at once."""
    faults = {}
    for i, record in enumerate(records):
        try:
            task = kind(target, options, context=context)
            task.learn([task_row(task, record)])
        except RowError as error:
            location = dataclasses.replace(record.location, column=target)
            faults[i] = RowError(error.message, location=location, hint=error.hint)
        except SchemaError:
            pass  # one row alone never has two classes
    return faults


def build_modalities(
    config: Config, schema: Schema, rows: Sequence[Row], tasks: Mapping[str, Task], *, notify: Notify,
    access: FileAccess = IN_MEMORY,
) -> dict[str, Modality]:  # fmt: skip
    """One modality for each kind of input that the schema names. access: where paths in the rows begin.

    Raises:
        SchemaError: there is no readable input, or not the one that a target needs.
    """
    own = {name: [f for f in schema.inputs if f.modality in kind.reads] for name, kind in MODALITIES.items()}
    # Read by the same weights as the inputs: positives of targets (``HasPositive``), and fields of a history's items.
    lent: dict[str, list[FieldSpec]] = {
        name: [
            FieldSpec(target, name)
            for target, task in tasks.items()
            if isinstance(task, HasPositive) and task.positive_modality == name
        ]
        for name in MODALITIES
    }
    items: list[Row] = []
    for name, kind in MODALITIES.items():
        if not issubclass(kind, HoldsItems):
            continue
        specs, item_rows = kind.items([*own[name], *lent[name]], rows, config)
        items += item_rows
        for other, reader in MODALITIES.items():
            lent[other] += [spec for spec in specs if spec.modality in reader.reads]
    read = {name for name in MODALITIES if own[name] or lent[name]}
    ignored = _ignored_backbones(config, read)
    config = config.model_copy(update={"backbone": _backbones(config, read)})
    needs = Needs.of(tasks)
    messages: list[str] = []

    def tell(message: str) -> None:
        messages.append(message)
        notify(message)

    for message in ignored:
        tell(message)
    built: dict[str, Modality] = {}
    for name, kind in MODALITIES.items():
        fields = _windowed_last(own[name], tasks) if name == "text" else own[name]
        if fields or lent[name]:
            learned = rows if not lent[name] else [*rows, *items] if fields else [*items, *rows]
            modality = kind.build([*fields, *lent[name]], BuildContext(learned, config, needs, built, tell, access))
            # Columns without information (all missing, constant) are left out when they are read.
            modality = modality.only([f.name for f in fields]) if lent[name] else modality
            if modality.fields or lent[name]:
                built[name] = modality
    if needs.frames:
        _check_images(built.get("image"))
    if needs.by_word and not ("text" in built and built["text"].fields):
        raise SchemaError(
            "no input column holds text, which the target's labels point into",
            hint="Name one: inputs={'column': 'text'} or --input column:text.",
        )
    read = [name for name, modality in built.items() if modality.fields]
    if not read:
        listed = ", ".join(f"{spec.name!r} ({spec.modality})" for spec in schema.inputs)
        reasons = "".join(f"; {message}" for message in messages if message.startswith("column "))
        how = "Name other inputs: inputs={'column': 'text'} (--input column:text)."
        raise SchemaError(f"none of the input columns can be read: {listed}{reasons}", hint=how)
    return {name: modality.by_itself() if [name] == read else modality for name, modality in built.items()}


def _check_images(image: Modality | None) -> None:
    """Raises SchemaError where no column of images is read, or several are."""
    if image is None or not image.fields:
        raise SchemaError(
            "no input column holds images, in which objects could be found",
            hint="Name one: inputs={'column': 'image'} or --input column:image.",
        )
    if len(image.fields) > 1:
        raise SchemaError(
            f"objects are found in one image per row, and there are {len(image.fields)} columns of them",
            hint=f"Name one: inputs={{{image.fields[0]!r}: 'image'}}.",
        )


def _backbones(config: Config, read: Collection[str]) -> dict[str, str]:
    """Modality → backbone. A single name goes to the modality it is made for, and the others get "auto".

    Raises:
        ConfigError: a backbone is named for what is no modality.
    """
    named = config.backbone
    if isinstance(named, str):
        if named in ("auto", "none"):
            return dict.fromkeys(read, named)
        kind = BACKBONES[named].kind if named in BACKBONES else "text" if "text" in read else "image"
        return {modality: named if modality == kind else "auto" for modality in read}
    for name in named:
        if name not in MODALITIES:
            raise ConfigError(f"backbone.{name}: {name!r} is no modality. {did_you_mean(name, MODALITIES)}")
    return {modality: named.get(modality, "auto") for modality in read}


def _ignored_backbones(config: Config, read: Collection[str]) -> list[str]:
    """A sentence for each backbone that was named for what no column holds: it is not used."""
    named = config.backbone
    if isinstance(named, str):
        known = BACKBONES[named].kind if named in BACKBONES else None
        kinds = {known} if known else {"text", "image"}
        asked = (
            {} if named in ("auto", "none") or kinds & set(read) else {named: " or ".join(sorted(kinds, reverse=True))}
        )
    else:
        asked = {
            n: kind
            for kind, n in named.items()
            if kind not in read and kind in MODALITIES and n not in ("auto", "none")
        }
    return [
        f"the backbone {name!r:.120} is not used: it reads {kind}, and no column is read as that (name one: --input "
        f"NAME:{kind.partition(' ')[0]})"
        for name, kind in asked.items()
    ]


def _windowed_last(fields: list[FieldSpec], tasks: Mapping[str, Task]) -> list[FieldSpec]:
    """The field that a QA target's spans point into comes last: the passage after its question."""
    if any(task.kind == "qa" for task in tasks.values()):
        for name in ("context", "passage", "paragraph"):
            if any(spec.name == name for spec in fields):
                return sorted(fields, key=lambda spec: spec.name == name)
    return fields
