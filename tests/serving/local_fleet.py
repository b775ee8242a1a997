"""A fleet without processes, for tests of the door: the same reading, computing and decoding, in this process."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from polydetr.errors import InputError, ModelFolderError
from polydetr.inference.folder import SEAL
from polydetr.inference.service import ServiceModel
from polydetr.serving.contract import Ask, ModelInfo, Reply, Row, UnknownModel
from polydetr.serving.describe import answer_schemas, column_schemas, example_row
from polydetr.serving.parcels import Parcel, ServedModel


class LocalFleet:
    """See ``serving.contract.Fleet``. asked: the rows of each call; hold, delay_s: answers wait for it, and then so
    long; failing: errors that the next calls raise.
    """

    def __init__(self, models: Mapping[str, ServiceModel], *, root: Path | None = None) -> None:
        self._models = {name: [ServedModel(i, model)] for i, (name, model) in enumerate(models.items())}
        self._numbers = itertools.count(1)
        self._root = root
        self.asked: list[list[Row]] = []
        self.hold: asyncio.Event | None = None
        self.failing: list[Exception] = []
        self.delay_s = 0.0
        self.states: dict[str, str] = {}
        self.stopped, self.unreadable = False, 0

    def models(self) -> Mapping[str, ModelInfo]:
        return {name: self._info(name) for name in self._models}

    def _info(self, name: str) -> ModelInfo:
        model = self._models[name][-1].model
        return ModelInfo(
            name=name, version=str(model.info.get(SEAL, "")), description=model.info, columns=column_schemas(model),
            answers=answer_schemas(model), runtime="torch", state=self.states.get(name, "ready"),
            example=example_row(model), previous="old" if len(self._models[name]) > 1 else None,
        )  # fmt: skip

    async def answer(self, model: str, rows: Sequence[Row], ask: Ask, *, timeout_s: float) -> list[Reply]:
        if model not in self._models:
            raise UnknownModel(f"no model {model!r} is served.")
        if self.failing:
            raise self.failing.pop(0)
        self.asked.append(list(rows))
        if self.hold is not None:
            await self.hold.wait()
        await asyncio.sleep(self.delay_s)
        return await asyncio.to_thread(self._answer, model, rows, ask)

    def unread(self, model: str, rows: int) -> None:
        self.unreadable += rows

    def _answer(self, model: str, rows: Sequence[Row], ask: Ask) -> list[Reply]:
        number = next(self._numbers)
        parcel = Parcel.read(
            rows, id=number, request=number, served=self._models[model][-1], ask=ask, first=1,
            deadline=time.monotonic() + 60,
        )  # fmt: skip
        parcel.compute_alone()
        for place in parcel.records if ask.explain else ():
            parcel.explain(place)
        return [reply for reply in parcel.replies if reply is not None]

    async def replace(self, model: str, folder: str, *, shadow: bool = False) -> ModelInfo:
        if model not in self._models:
            raise UnknownModel(f"no model {model!r} is served.")
        assert self._root is not None
        try:
            loaded = ServiceModel.load(self._root / folder)
        except ModelFolderError as error:
            raise ModelFolderError("it cannot be loaded.", hint=error.hint) from None
        self._models[model].append(ServedModel(99, loaded))
        return self._info(model)

    async def roll_back(self, model: str) -> ModelInfo:
        if model not in self._models:
            raise UnknownModel(f"no model {model!r} is served.")
        if len(self._models[model]) < 2:
            raise InputError(f"{model!r} has no previous version.")
        self._models[model].pop()
        return self._info(model)

    def drift(self, model: str) -> list[Any]:
        return []

    def measurements(self) -> str:
        return "# TYPE polydetr_rows gauge\npolydetr_rows 1\n"

    async def stop(self, *, grace_s: float) -> None:
        self.stopped = True


def of_rows(rows: Sequence[Mapping[str, Any]], folder: Path, **how: Any) -> ServiceModel:
    """A model of a few weights, trained for a moment on these rows, saved, and loaded as a service loads it."""
    from polydetr import Predictor

    usual = {"model": {"embed_dim": 16, "num_layers": 1, "num_heads": 2}, "training": {"batch_tokens": 256}}
    Predictor.fit(list(rows), out=folder, backbone="none", epochs=1, seed=0, config=usual, **how)
    return ServiceModel.load(folder)
