"""In a model process: the models that it holds, loaded, warmed and described."""

from __future__ import annotations

import gc
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from polydetr.core.memory import give_back_memory
from polydetr.core.runner import SharesWeights, SizedRunner
from polydetr.inference.folder import SEAL
from polydetr.inference.service import ServiceModel
from polydetr.serving.contract import Ask
from polydetr.serving.describe import answer_schemas, column_schemas, example_row
from polydetr.serving.parcels import Parcel, ServedModel

_LONG = 3600.0


class Models:
    """Handle → model. Weights that several of them have in common are in memory once."""

    def __init__(self) -> None:
        self._models: dict[int, ServedModel] = {}
        self._weights: dict[Any, Any] = {}
        self._lock = threading.Lock()

    def __getitem__(self, handle: int) -> ServedModel:
        return self._models[handle]

    def load(self, handle: int, folder: Path, *, runtime: str | None) -> dict[str, Any]:
        """Loads the model and computes a row by it, so that the first request waits for nothing; what is known of it.

        Raises:
            PolydetrError: see ``LoadedModel.load``.
        """
        model = ServiceModel.load(folder) if runtime is None else ServiceModel.load(folder, runner=runtime)
        runner = model.engine.runner
        with self._lock:
            if isinstance(runner, SharesWeights):
                runner.share_weights(self._weights)
                give_back_memory()
        served = ServedModel(handle, model)
        example = example_row(model)
        _warm(served, example)
        self._models[handle] = served
        gc.freeze()  # half a million objects of imports, which a look for garbage need not pass every time
        return {
            "seal": model.info.get(SEAL, ""),
            "description": model.info,
            "columns": column_schemas(model),
            "answers": answer_schemas(model),
            "example": example,
            "runtime": f"{runner.runtime} {runner.precision}"
            if isinstance(runner, SizedRunner)
            else runtime or type(runner).__name__,
            "draws": served.draws,
        }

    def drop(self, handle: int) -> None:
        """Frees what this model alone used."""
        self._models.pop(handle, None)
        gc.unfreeze()
        gc.collect()
        gc.freeze()
        give_back_memory()


def _warm(served: ServedModel, example: Mapping[str, Any]) -> None:
    """Answers the example alone and beside itself: kernels are chosen, memory is laid out, threads are begun."""
    for count in (1, 8):
        parcel = Parcel.read(
            [example] * count, id=0, request=0, served=served, ask=Ask(), first=1, deadline=_LONG, checked=True
        )
        parcel.compute_alone()
