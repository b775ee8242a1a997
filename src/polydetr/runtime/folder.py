"""An exported model's folder, read: its graphs, put into a runner."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from polydetr.core.ahead import cores
from polydetr.core.installed import pip_upgrade
from polydetr.errors import ConfigError, ModelFolderError, check_choice, quoted
from polydetr.modalities.base import Modality
from polydetr.modalities.image import ImageModality
from polydetr.runtime.painting import Painter
from polydetr.runtime.runner import BATCH_TOKENS, IMAGE_TOKENS, OnnxRunner
from polydetr.runtime.sessions import Graph
from polydetr.tasks.base import Task
from polydetr.tasks.capabilities import HasPositive
from polydetr.tasks.generation import GenerationTask

PORTABLE_INT8 = 2
"""The format from which on weights in 8 bits are small enough for every processor (``export.int8``)."""
_AGAIN = "Copy the whole folder again, or export the model again."


def load_runner(
    folder: Path,
    manifest: Mapping[str, Any],
    modalities: Mapping[str, Modality],
    tasks: Mapping[str, Task],
    *,
    precision: str = "auto",
) -> OnnxRunner:
    """The graphs of an exported model, on the CPU.

    Raises:
        ConfigError: another precision than the graphs have, or onnxruntime is not installed. ModelFolderError: another
        program is to compute them, or a graph cannot be read.
    """
    exported = manifest["export"]  # its form was checked when it was read
    if exported["runtime"] != "onnx":
        raise ModelFolderError(
            f"{str(folder)!r} was exported for {quoted(exported['runtime'])}, which this version does not know.",
            hint=f"Upgrade polydetr: {pip_upgrade()}.",
        )
    if exported["precision"] == "int8" and exported["format"] < PORTABLE_INT8:
        raise ModelFolderError(
            f"{str(folder)!r} was exported in int8 by an earlier version, whose products are wrong on processors "
            "without VNNI.",
            hint="Export the model again.",
        )
    check_choice("precision", precision, ("auto", "fp32", "bf16", "int8"))
    if precision not in ("auto", exported["precision"]):
        raise ConfigError(
            f"precision {precision!r}: the model was exported in {exported['precision']}.",
            hint="Load it with precision='auto', or load the model that it was exported from.",
        )
    return runner_of(folder, exported, modalities, tasks)


def runner_of(
    folder: Path, exported: Mapping[str, Any], modalities: Mapping[str, Modality], tasks: Mapping[str, Task]
) -> OnnxRunner:
    """exported: what the description says of the graphs in ``folder``. Raises ConfigError, ModelFolderError.

    Batches of short rows are computed side by side, one per core: on two cores that took a tenth less of the
    processors' time than to share the work of each operator. One image alone is work enough for all cores.
    """
    shared = any(isinstance(modality, ImageModality) for modality in modalities.values())
    threads = cores()
    graphs, painters = {}, {}
    for file, entry in exported["graphs"].items():
        graph = Graph(folder / file, threads=threads if shared else 1)
        target = entry.get("step_of")
        if target is not None:
            painters[target] = _painter(tasks, target, graph)
            continue
        reads = frozenset(entry["reads"])
        names = {name: (target, output) for name, (target, output) in entry["gives"].items()}
        if not graph.inputs <= reads or not names.keys() <= set(graph.outputs):
            raise ModelFolderError(f"{str(folder / file)!r} is not the graph that was described.", hint=_AGAIN)
        graphs[reads] = graph, names
    answered = {target for _, names in graphs.values() for target, _ in names.values()} | painters.keys()
    if answered != tasks.keys():
        raise ModelFolderError(f"the graphs in {str(folder)!r} are those of other targets.", hint=_AGAIN)
    sides = {t: task.positive_modality for t, task in tasks.items() if isinstance(task, HasPositive)}
    positive_sides = {target: side for target, side in sides.items() if side is not None}
    at_once, in_fork, batch_tokens = (1, threads == 1, IMAGE_TOKENS) if shared else (threads, True, BATCH_TOKENS)
    return OnnxRunner(
        graphs, painters, positive_sides, at_once=at_once, in_fork=in_fork, batch_tokens=batch_tokens,
        precision=exported["precision"],
    )  # fmt: skip


def _painter(tasks: Mapping[str, Task], target: str, step: Graph) -> Painter:
    task = tasks.get(target)
    if not isinstance(task, GenerationTask):
        raise ModelFolderError(f"a graph generates images of {quoted(target)}, which is no target that has any.")
    return Painter(task, step)
