"""Graphs as ONNX Runtime computes them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from polydetr.errors import ConfigError, ModelFolderError, PolydetrError, shown

if TYPE_CHECKING:
    from onnxruntime import InferenceSession

_SLOW = "SkipLayerNormFusion"
"""What ONNX Runtime does on its own accord: one operator in place of two additions and a normalization, which takes
four times as long as the three (1.32, one thread: 6.1 against 1.6 ns per number)."""


class Graph:
    """One graph, which any number of threads may run at once.

    threads: those that one run computes on; with 1 it is the calling thread alone.
    """

    def __init__(self, path: Path, *, threads: int) -> None:
        """Raises ModelFolderError where ONNX Runtime does not read the file, ConfigError where it is not installed."""
        self._session = _session(path, threads=threads)
        self.inputs = frozenset(entry.name for entry in self._session.get_inputs())
        self.outputs = tuple(entry.name for entry in self._session.get_outputs())

    def __call__(self, feeds: Mapping[str, np.ndarray], names: Sequence[str]) -> dict[str, np.ndarray]:
        """The outputs of these names. feeds: what the graph does not read is left out."""
        import onnxruntime

        options = onnxruntime.RunOptions()
        options.only_execute_path_to_fetches = len(names) < len(self.outputs)
        read = {name: array for name, array in feeds.items() if name in self.inputs}
        try:
            found = self._session.run(list(names), read, options)
        except Exception as error:  # of ONNX Runtime's own kinds, without a common base
            raise PolydetrError(f"ONNX Runtime cannot compute the graph: {shown(str(error), 300)}.") from error
        return {name: np.asarray(array) for name, array in zip(names, found, strict=True)}


def _session(path: Path, *, threads: int) -> InferenceSession:
    try:
        import onnxruntime
    except ImportError:
        raise ConfigError(
            "the runner 'onnx' needs the package onnxruntime, which is not installed.",
            hint="Install it: pip install onnxruntime.",
        ) from None
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    # Both keep memory for every shape that was ever computed, and lengths and batches differ from run to run.
    options.enable_cpu_mem_arena, options.enable_mem_pattern = False, False
    options.log_severity_level = 3  # errors
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # a core that waits is another's
    try:
        return onnxruntime.InferenceSession(
            path, options, providers=["CPUExecutionProvider"], disabled_optimizers=[_SLOW]
        )
    except Exception as error:  # of ONNX Runtime's own kinds, without a common base
        raise ModelFolderError(
            f"{str(path)!r} cannot be read by ONNX Runtime {onnxruntime.__version__}: {shown(str(error), 300)}.",
            hint="Upgrade it: pip install --upgrade onnxruntime; or export the model again.",
        ) from error
