"""From a configuration and rows to an untrained model: schema → tasks → modalities → encoder → model."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from polydetr.config.sections import Config, ModelConfig
from polydetr.core.plugs import MODALITIES, TASKS
from polydetr.core.records import Record, Row, folder_of
from polydetr.engine.encode import task_row
from polydetr.engine.engine import Engine
from polydetr.errors import ConfigError, RowError, SchemaError, did_you_mean
from polydetr.fetch.catalog import BACKBONES
from polydetr.modalities.base import Modality, Needs
from polydetr.modalities.capabilities import HoldsItems
from polydetr.model.model import PolyModel
from polydetr.model.runner import TorchRunner
from polydetr.schema.spec import FieldSpec, Schema
from polydetr.tasks.base import DecoderOptions, DecoderSizes, Task, TaskContext, TaskOptions
from polydetr.tasks.capabilities import HasPositive
from polydetr.tasks.options import old_keys, read_options

Note = Callable[[str], None]


@dataclass(frozen=True)
class Assembly:
    """A model, and the engine that answers by it through the runner."""

    model: PolyModel
    engine: Engine
    runner: TorchRunner


def build_runner(
    modalities: Mapping[str, Modality],
    tasks: Mapping[str, Task],
    config: ModelConfig,
    *,
    label_smoothing: float = 0.0,
) -> TorchRunner:
    """The network with random weights, and what runs it: the one place where it is put together, fresh or to be filled
    from a folder.
    """
    return TorchRunner(PolyModel(modalities, tasks, config, label_smoothing=label_smoothing))


def build_model(config: Config, schema: Schema, records: Sequence[Record], *, note: Note) -> Assembly:
    """A fresh model with pretrained or random weights, in evaluation mode, its labels learned from ``records``.

    Raises:
        ConfigError, SchemaError, RowError, BackboneError: what does not fit, by name.
    """
    rows = [record.row for record in records]
    tasks = build_tasks(config, schema, records, note=note)
    folder = folder_of(records[0]) if records else None
    modalities = build_modalities(config, schema, rows, tasks, folder=folder, note=note)
    torch.manual_seed(config.seed)
    runner = build_runner(modalities, tasks, config.model, label_smoothing=config.training.label_smoothing)
    model = runner.model
    model.load_pretrained(modalities)
    if "text" in modalities:
        model.name_labels(tasks, modalities["text"])
    model.eval()
    engine = Engine.of(modalities, tasks, runner, context=config.text.context)
    return Assembly(model, engine, runner)


def build_tasks(config: Config, schema: Schema, records: Sequence[Record], *, note: Note) -> dict[str, Task]:
    """One task per target, which has learned its label set."""
    options = read_options(config, schema)
    for line in old_keys(config, schema):
        note(line)
    context = _context(config, schema, options)
    tasks: dict[str, Task] = {}
    for spec in schema.targets:
        target, kind = spec.name, TASKS[spec.task]
        task = kind(target, options[target], context=context)
        try:
            notes = task.learn([task_row(task, record) for record in records])
        except RowError:
            faults = _unreadable(kind, target, options[target], context, records)
            if config.on_error == "raise":
                raise next(iter(faults.values())) from None
            # Encoding the rows rejects these one by one; the label set is learned from the others.
            notes = task.learn([task_row(task, record) for i, record in enumerate(records) if i not in faults])
        for line in notes:
            note(line)
        tasks[target] = task
    return tasks


def _context(config: Config, schema: Schema, options: Mapping[str, TaskOptions]) -> TaskContext:
    decoder = None
    if config.model.share_decoder:
        given = [found for found in options.values() if isinstance(found, DecoderOptions)]
        widths = (found.hidden_dim for found in given if found.hidden_dim is not None)
        layers = (found.decoder_layers for found in given if found.decoder_layers)
        decoder = DecoderSizes(next(widths, None), next(layers, None))
    return TaskContext(
        tuple(spec.modality for spec in schema.inputs), decoder, config.image.augment.mix,
        config.training.freeze_backbones,
    )  # fmt: skip


def _unreadable(
    kind: type[Task], target: str, options: TaskOptions, context: TaskContext, records: Sequence[Record]
) -> dict[int, RowError]:
    """Learning sees all rows at once; this finds those it fails at, with their place."""
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
    config: Config, schema: Schema, rows: Sequence[Row], tasks: Mapping[str, Task], *, folder: Path | None, note: Note
) -> dict[str, Modality]:
    """One modality for each kind of input that the schema names.

    Raises:
        SchemaError: there is nothing to read, or not what a target is found in.
    """
    own = {name: [f for f in schema.inputs if f.modality in kind.reads] for name, kind in MODALITIES.items()}
    # What is read of targets (``HasPositive``) and inside a history's items, by the same weights as the inputs.
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
        specs, found_rows = kind.items([*own[name], *lent[name]], rows, config)
        items += found_rows
        for other, reader in MODALITIES.items():
            lent[other] += [spec for spec in specs if spec.modality in reader.reads]
    read = {name for name in MODALITIES if own[name] or lent[name]}
    config = config.model_copy(update={"backbone": _backbones(config, read)})
    needs = Needs.of(tasks)
    found: dict[str, Modality] = {}
    for name, kind in MODALITIES.items():
        fields = _windowed_last(own[name], tasks) if name == "text" else own[name]
        if fields or lent[name]:
            seen = rows if not lent[name] else [*rows, *items] if fields else [*items, *rows]
            made = kind.build([*fields, *lent[name]], seen, config, needs=needs, others=found, folder=folder, note=note)
            # Columns that say nothing (all missing, constant) are left out when they are read.
            made = made.only([f.name for f in fields]) if lent[name] else made
            if made.fields or lent[name]:
                found[name] = made
    if needs.frames:
        _check_images(found.get("image"))
    if needs.by_word and not ("text" in found and found["text"].fields):
        raise SchemaError(
            "no input column holds text, which the target's labels point into",
            hint="Name one: inputs={'column': 'text'} or --input column:text.",
        )
    read = [name for name, modality in found.items() if modality.fields]
    if not read:
        listed = ", ".join(f"{spec.name!r} ({spec.modality})" for spec in schema.inputs)
        raise SchemaError(f"none of the input columns can be read: {listed}", hint="Name the inputs.")
    return {name: modality.by_itself() if [name] == read else modality for name, modality in found.items()}


def _check_images(image: Modality | None) -> None:
    """Raises SchemaError where there is no image to find something in, or there are several."""
    if image is None or not image.fields:
        raise SchemaError(
            "no input column holds pictures, in which objects could be found",
            hint="Name one: inputs={'column': 'image'} or --input column:image.",
        )
    if len(image.fields) > 1:
        raise SchemaError(
            f"objects are found in one picture a row, and there are {len(image.fields)} columns of them",
            hint=f"Name one: inputs={{{image.fields[0]!r}: 'image'}}.",
        )


def _backbones(config: Config, read: Collection[str]) -> dict[str, str]:
    """Modality → backbone. A single name goes to the modality it is made for, and the others choose for themselves.

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


def _windowed_last(fields: list[FieldSpec], tasks: Mapping[str, Task]) -> list[FieldSpec]:
    """The field that token-level answers point into comes last: a passage after its question."""
    if any(task.kind == "qa" for task in tasks.values()):
        for name in ("context", "passage", "paragraph"):
            if any(spec.name == name for spec in fields):
                return sorted(fields, key=lambda spec: spec.name == name)
    return fields
