"""From a model to a folder that is answered from without PyTorch: graphs in place of the weights, all else as it was.

Nothing is written before every graph is recorded, and the folder takes its place only once what its graphs compute was
compared with what PyTorch computes.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import Tensor

from polydetr import __version__
from polydetr.config.sections import ModelConfig
from polydetr.core.examples import Example
from polydetr.core.files import save_bytes
from polydetr.core.installed import pip_install
from polydetr.core.runner import Runner
from polydetr.engine.engine import Engine
from polydetr.errors import ConfigError, OutputError, PolydetrError, listed
from polydetr.export.compare import compared
from polydetr.export.graphs import Plan, plan, recorded
from polydetr.inference.folder import EXPORT_FORMAT, MANIFEST, SEAL, read_json
from polydetr.inference.proof import Proof
from polydetr.model.folder import check_replaceable, write_folder
from polydetr.model.model import PolyModel
from polydetr.model.runner import TorchRunner
from polydetr.runtime.folder import runner_of

if TYPE_CHECKING:
    from onnx import ModelProto

TOLERANCE = 1e-3
"""By how much an output may differ, relative where it is above 1: ten times what is promised of a score, since random
rows are further from any sense than real ones."""
MOST_BYTES = 2_000_000_000
"""Of weights: a message of protobuf has less than 2 GiB."""
_PACKAGES = ("onnx", "onnxscript", "onnxruntime")


@dataclass(frozen=True)
class Exported:
    """What was written. largest_difference: of any output from PyTorch's, relative where it is above 1, on ``rows``
    encoded windows, which are those of the validation or made at random (``rows_are``). proof: of 8-bit integers.
    """

    folder: Path
    graphs: tuple[str, ...]
    bytes: int
    rows: int
    rows_are: str
    largest_difference: float
    proof: Proof | None = None

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def check_export(out: Path, info: Mapping[str, Any], *, overwrite: bool) -> None:
    """All that can be known before work begins.

    Raises:
        ConfigError: a package is not installed, or the model is an exported one. OutputError: ``out`` is taken.
    """
    missing = [name for name in _PACKAGES if find_spec(name) is None]
    if missing:
        raise ConfigError(f"exporting needs {listed(missing)}, not installed here.", hint=f"{pip_install('export')}.")
    if "export" in info:
        raise ConfigError(
            "the model was exported already: it has graphs in place of weights.",
            hint="Export the model that it was made from.",
        )
    check_replaceable(out)
    if not os.path.lexists(out / MANIFEST):
        return
    earlier = read_json(out, MANIFEST)
    if not isinstance(earlier, Mapping) or "export" not in earlier:
        raise OutputError(
            f"{str(out)!r} holds a trained model, whose weights would be lost: it is not overwritten.",
            hint="Name another folder.",
        )
    if not overwrite:
        raise OutputError(
            f"{str(out)!r} holds an exported model already.",
            hint="Name another folder, or replace it: --overwrite (overwrite=True).",
        )


def export_model(
    engine: Engine,
    weights: Mapping[str, Tensor],
    info: Mapping[str, Any],
    out: Path,
    *,
    overwrite: bool = False,
    examples: Sequence[Example] | None = None,
    quantized: Callable[[ModelProto], ModelProto] | None = None,
    prove: Callable[[Runner, Runner], Proof] | None = None,
    extra: Callable[[Path], None] = lambda new: None,
) -> Exported:
    """Writes the model to the folder ``out``, from which it is answered by ONNX Runtime.

    weights: float32. info: the model's description. examples: encoded rows of the validation, on which the graphs are
    compared with PyTorch; random ones otherwise. quantized: makes each graph one in 8-bit integers, or gives it back
    where that brings nothing; the difference is measured, and judged by ``prove`` alone: it takes PyTorch's runner in
    float32 and that of the graphs, and raises where the latter is not good enough. extra: writes card and reports.

    Raises:
        ConfigError, OutputError: see ``check_export``. SaveError: the folder cannot be written. PolydetrError: the
        model cannot be exported, or the graphs compute something else.
    """
    check_export(out, info, overwrite=overwrite)
    size = sum(4 * tensor.numel() for tensor in weights.values())
    if size > MOST_BYTES:
        raise PolydetrError(
            f"the model cannot be exported: its weights take {size / 1e9:.1f} GB, and one file of ONNX holds 2.",
            hint="Train one with a smaller backbone.",
        )
    modalities, tasks = engine.encoder.modalities, engine.tasks
    model = PolyModel(modalities, tasks, ModelConfig(**{"additive": False, **info["model"]}))
    model.load_state_dict({name: tensor.float().cpu() for name, tensor in weights.items()})
    planned = plan(model.eval(), engine.encoder, tasks)
    graphs = recorded(planned, model, engine.encoder, tasks)
    if quantized is not None:
        rounded = {file: quantized(graph) for file, graph in graphs.items()}
        if all(rounded[file] is graph for file, graph in graphs.items()):
            raise ConfigError(
                "8-bit integers would not make this model faster: it has no linear layer that is large enough.",
                hint="Export it in float32: leave --int8 (int8=True) out.",
            )
        graphs = rounded
    precision = "fp32" if quantized is None else "int8"
    described = dict(info) | {"export": _described(planned, graphs, info) | {"precision": precision}}
    done: list[Exported] = []

    def fill(new: Path) -> None:
        for file, graph in graphs.items():
            save_bytes(new / file, graph.SerializeToString())
        runners = TorchRunner(model), runner_of(new, described["export"], modalities, tasks)
        found = compared(engine, *runners, examples)
        if quantized is None and not found["largest_difference"] <= TOLERANCE:
            raise PolydetrError(
                f"the exported graphs differ from the model by {found['largest_difference']:.2g}, more than "
                f"{TOLERANCE:g}: nothing is written."
            )
        described["export"]["compared"] = found
        proof = None if prove is None else prove(*runners)
        described["export"] |= {} if proof is None else {"proof": proof.to_dict()}
        written = sum((new / file).stat().st_size for file in graphs)
        done.append(Exported(out, tuple(graphs), written, **found, proof=proof))
        extra(new)

    write_folder(out, engine, described, fill)
    return done[0]


def _described(planned: Plan, graphs: Mapping[str, ModelProto], info: Mapping[str, Any]) -> dict[str, Any]:
    """The entry ``export`` of the description."""
    step_of = {file: target for target, file in planned.steps.items()}
    entries: dict[str, Any] = {}
    for file, graph in planned.graphs.items():
        if file in step_of:
            entries[file] = {"step_of": step_of[file]}
        else:
            gives = {name: list(output) for name, output in graph.gives.items()}
            entries[file] = {"reads": sorted(graph.feeds), "gives": gives}
    first = next(iter(graphs.values()))
    return {
        "format": EXPORT_FORMAT,
        "runtime": "onnx",
        "opset": max(entry.version for graph in graphs.values() for entry in graph.opset_import if not entry.domain),
        "ir_version": max(graph.ir_version for graph in graphs.values()),
        "exporter": f"{first.producer_name} {first.producer_version}".strip(),
        "versions": {"polydetr": __version__, **{name: _version(name) for name in ("torch", "numpy", *_PACKAGES)}},
        "graphs": entries,
        "of": info.get(SEAL),
    }


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:  # under another name, such as onnxruntime-gpu
        return "?"
