"""Which graphs a model takes, and their recording as ONNX.

model.onnx         the inputs of a row → all outputs of the targets; where images are generated also the row's tokens
positive-N.onnx    the positive side of embeddings, where other arrays go in than those of the inputs
step-N.onnx        one step of generation: a row's tokens, noisy images and their times → velocities
"""

from __future__ import annotations

import contextlib
import functools
import io
import logging
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn
from torch.export import Dim

from polydetr.core.graphs import MASK, NOISY, TIME, TOKENS, feeds_of
from polydetr.engine.encode import RowEncoder
from polydetr.errors import PolydetrError, quoted, shown
from polydetr.export.templates import BATCH, batch_for, is_single
from polydetr.heads.base import GeneratesImages
from polydetr.modalities.base import Modality
from polydetr.model.graph import GraphModel, PaintingStep
from polydetr.model.model import PolyModel
from polydetr.tasks.base import Task
from polydetr.tasks.generation import GenerationTask

if TYPE_CHECKING:
    from onnx import ModelProto

OPSET = 20
"""Of ONNX's operators; ONNX Runtime knows it since 1.17."""
MAIN = "model.onnx"


class NotRecorded(Exception):
    """A layer makes no graph: what it does depends on values, or ONNX has no operator for it."""


@dataclass(frozen=True)
class Graph:
    """A graph to be recorded: its module, a batch that goes in, and by name the axes of it that have any length."""

    module: nn.Module
    feeds: Mapping[str, np.ndarray]
    lengths: Mapping[str, bool]
    """By name: whether axis 1 has any length. Axis 0, the batch, always has."""

    @functools.cached_property
    def gives(self) -> dict[str, tuple[str, str]]:
        """The graph's name of each output of a target → the target, and the output's own name."""
        assert isinstance(self.module, GraphModel)
        with torch.no_grad():
            return self.module.names({name: torch.from_numpy(array) for name, array in self.feeds.items()})

    def onnx(self) -> ModelProto:
        """The graph in ONNX, with its weights.

        Raises:
            NotRecorded: something in it cannot be recorded.
        """
        tensors = {name: torch.from_numpy(array) for name, array in self.feeds.items()}
        dynamic = {n: {0: Dim.DYNAMIC, 1: Dim.DYNAMIC} if self.lengths[n] else {0: Dim.DYNAMIC} for n in tensors}
        try:
            with torch.no_grad(), _quiet():
                outputs = list(self.module(tensors))
                recorded = torch.export.export(self.module, (tensors,), dynamic_shapes={"tensors": dynamic})
                program = torch.onnx.export(
                    recorded, (), input_names=list(tensors), output_names=outputs, opset_version=OPSET, verbose=False
                )
        except Exception as error:  # whatever a layer that cannot be recorded leads to
            raise NotRecorded(f"{type(error).__name__}: {shown(str(error), 300)}") from error
        assert program is not None
        return self._tidied(program.model_proto)

    def _tidied(self, model: ModelProto) -> ModelProto:
        """Without what the recorder notes for itself, such as where on this machine each operator was called from, and
        with sizes that have names.
        """
        del model.metadata_props[:]
        for part in (model.graph, *model.graph.node, *model.graph.value_info, *model.functions):
            del part.metadata_props[:]
        names: dict[str, str] = {}
        for entry in model.graph.input:
            for axis, size in enumerate(entry.type.tensor_type.shape.dim):
                if size.dim_param:
                    names.setdefault(size.dim_param, "batch" if axis == 0 else f"{_group(entry.name)} length")
        for entry in (*model.graph.input, *model.graph.output, *model.graph.value_info):
            for size in entry.type.tensor_type.shape.dim:
                size.dim_param = names.get(size.dim_param, size.dim_param) if size.dim_param else size.dim_param
        return model


@dataclass(frozen=True)
class Plan:
    """The graphs of a model by the names of their files, and those of one step of generation by target."""

    graphs: Mapping[str, Graph]
    steps: Mapping[str, str]


def plan(model: PolyModel, encoder: RowEncoder, tasks: Mapping[str, Task]) -> Plan:
    """model: in evaluation mode, in float32, on the CPU.

    Raises:
        PolydetrError: a target generates images in a way of its own.
    """
    generating = [target for target in tasks if isinstance(model.head_of(target), GeneratesImages)]
    for target in generating:
        if not isinstance(tasks[target], GenerationTask):
            raise PolydetrError(
                f"target {quoted(target)} cannot be exported: the task {tasks[target].kind!r} generates images in a "
                "way of its own.",
                hint="Export a model without this target.",
            )
    others = [target for target in tasks if target not in generating]
    main = _of_inputs(GraphModel(model, others, with_tokens=bool(generating)), encoder.read)
    graphs = {MAIN: main}
    sides: dict[tuple[object, ...], list[str]] = {}
    for target, side in encoder.positives.items():
        sides.setdefault(_reads(_of_inputs(model, {side.name: side})), []).append(target)
    sides.pop(_reads(main), None)  # the same arrays: the graph of the inputs reads them
    for number, targets in enumerate(sides.values(), start=1):
        side = encoder.positives[targets[0]]
        graphs[f"positive-{number}.onnx"] = _of_inputs(GraphModel(model, targets), {side.name: side})
    steps = {target: f"step-{number}.onnx" for number, target in enumerate(generating, start=1)}
    for target, file in steps.items():
        task = tasks[target]
        assert isinstance(task, GenerationTask)
        graphs[file] = _step(model, main, target, task)
    return Plan(graphs, steps)


def recorded(planned: Plan, model: PolyModel, encoder: RowEncoder, tasks: Mapping[str, Task]) -> dict[str, ModelProto]:
    """Every graph in ONNX, by the name of its file.

    Raises:
        PolydetrError: one cannot be recorded; it names the modality or the target whose layers are why.
    """
    try:
        return {file: graph.onnx() for file, graph in planned.graphs.items()}
    except NotRecorded as error:
        part = _unrecorded(model, encoder, tasks)
        raise PolydetrError(
            f"the model cannot be exported: {part} makes no graph ({error}).",
            hint="No layer may branch on the values of a tensor, or take a size from them.",
        ) from error


def _unrecorded(model: PolyModel, encoder: RowEncoder, tasks: Mapping[str, Task]) -> str:
    """The first part of a model that cannot be recorded by itself."""
    for name, modality in encoder.read.items():
        try:
            _of_inputs(GraphModel(model, [], with_tokens=True), {name: modality}).onnx()
        except NotRecorded:
            return f"the modality {name!r}"
    for target, task in tasks.items():
        try:
            _of_inputs(GraphModel(model, [target]), encoder.read).onnx()
        except NotRecorded:
            return f"the target {quoted(target)} ({task.kind})"
    return "one of its graphs"


def _of_inputs(module: nn.Module, modalities: Mapping[str, Modality]) -> Graph:
    feeds = feeds_of(batch_for(modalities))
    return Graph(module.eval(), feeds, {n: not is_single(modalities[_group(n)]) for n in feeds})


def _reads(graph: Graph) -> tuple[object, ...]:
    """What a graph can be given: names, types and the axes behind the length."""
    return tuple(sorted((name, str(array.dtype), array.shape[2:]) for name, array in graph.feeds.items()))


def _step(model: PolyModel, main: Graph, target: str, task: GenerationTask) -> Graph:
    with torch.no_grad():
        found: Mapping[str, Tensor] = main.module({n: torch.from_numpy(array) for n, array in main.feeds.items()})
    row = {name: tensor.numpy() for name, tensor in found.items() if name.startswith((TOKENS, MASK))}
    lengths = {name: main.lengths[f"{_group(name)}.mask"] for name in row}
    shape = (BATCH, task.channels, task.size, task.size)
    noise = {NOISY: np.zeros(shape, np.float32), TIME: np.zeros(BATCH, np.float32)}
    module = PaintingStep(model, target, with_unconditional=task.options.guidance != 1.0)
    return Graph(module.eval(), {**row, **noise}, {**lengths, **dict.fromkeys(noise, False)})


def _group(name: str) -> str:
    """The group that an input of a graph belongs to."""
    return name.removeprefix(TOKENS).removeprefix(MASK).partition(".")[0]


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """What the recorder says of itself, of its own deprecations and of its steps, is for those who work on it."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
