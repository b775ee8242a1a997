"""What runs over the same rows encode and compute once."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import dataclass, replace
from typing import Any, Generic, TypeVar

from polydetr.config.sections import Config
from polydetr.core.records import Record
from polydetr.engine.engine import Engine
from polydetr.modalities.base import Notify
from polydetr.model.build import Assembly
from polydetr.training.budget import Budget
from polydetr.training.checkpoint import frozen_digest
from polydetr.training.encode import EncodedRows, MeasuredRows, Splits, encode_rows, encoding_key
from polydetr.training.features import freeze_backbones, with_features
from polydetr.training.run import hash_rows

MOST_KEPT = 16
"""Encodings that are kept, those used last: each is a few files of the cache that stay open."""
_T = TypeVar("_T")


@dataclass(frozen=True)
class _Encoded:
    """The rows without those of the test, these, and what encoding them made of the splits."""

    rows: EncodedRows
    test: MeasuredRows | None
    train: list[Record]
    rejected: list[dict[str, Any]]


class SharedEncodings:
    """Encodes and computes features in place of ``encode_rows`` and ``with_features``, each once for what comes out the
    same: by the state of modalities and tasks, the rows, and the weights of the frozen backbones.
    """

    def __init__(self) -> None:
        self._encoded: _Latest[_Encoded] = _Latest()
        self._features: _Latest[tuple[EncodedRows, EncodedRows]] = _Latest()

    def encode(self, engine: Engine, splits: Splits, config: Config, data_hash: str, *, notify: Notify) -> EncodedRows:
        """See ``encode_rows``, which changes the splits in the same way; without the rows of the test."""
        return self.encode_apart(engine, splits, config, data_hash, notify=notify)[0]

    def encode_apart(
        self, engine: Engine, splits: Splits, config: Config, data_hash: str, *, notify: Notify
    ) -> tuple[EncodedRows, MeasuredRows | None]:
        """Likewise, and the rows of the test beside the others, not to be answered by the run itself."""
        measured = hash_rows([*splits.valid, *(splits.test or ())])

        def encoded() -> _Encoded:
            rows = encode_rows(engine, splits, config, data_hash, notify=notify)
            return _Encoded(replace(rows, test=None), rows.test, [*splits.train], [*splits.rejected])

        found = self._encoded.get((encoding_key(engine, splits.train, config, data_hash), measured), encoded)
        splits.train, splits.rejected[:] = [*found.train], found.rejected
        return found.rows, found.test

    def with_features(
        self, assembly: Assembly, rows: EncodedRows, *, notify: Notify, budget: Budget | None = None
    ) -> EncodedRows:
        """See there; always of all rows, as other runs read them too."""
        freeze_backbones(assembly.model)
        key = (id(rows), frozen_digest(assembly.model))  # kept with its rows: no others get their id
        return self._features.get(key, lambda: (rows, with_features(assembly, rows, notify=notify)))[1]


class _Latest(Generic[_T]):
    """Values by key, of the ``MOST_KEPT`` keys that were asked for last."""

    def __init__(self) -> None:
        self._kept: OrderedDict[Hashable, _T] = OrderedDict()

    def get(self, key: Hashable, make: Callable[[], _T]) -> _T:
        if key not in self._kept:
            self._kept[key] = make()
            while len(self._kept) > MOST_KEPT:
                self._kept.popitem(last=False)
        self._kept.move_to_end(key)
        return self._kept[key]
