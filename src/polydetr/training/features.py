"""Training with frozen backbones: what they make of the rows is computed once, kept on disk, and an epoch costs only
what stands on them.

The features stand in the examples in place of what they were made from, under the same group, so that the loop, the
model and the evaluation are the ones of every other run.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path

import numpy as np
import torch

from polydetr.core.ahead import ahead
from polydetr.core.documents import EncodedDocument
from polydetr.core.examples import Example
from polydetr.core.files import cache_dir
from polydetr.core.records import Record
from polydetr.data.batching import token_budget_batches
from polydetr.data.store import ExampleStore, trim_cache
from polydetr.embedders.base import HasBackbone
from polydetr.engine.encode import RowEncoder
from polydetr.engine.engine import Engine
from polydetr.errors import ConfigError
from polydetr.model.model import PolyModel
from polydetr.nn.batch import Batch
from polydetr.tasks.base import modality_of
from polydetr.training.checkpoint import frozen_digest

_FORMAT = 3
"""Raised whenever other features would be written for the same rows: files made before are then not read."""
_AT_ONCE = 512
"""Examples whose features are computed and written together: a bound on memory."""


def freeze_backbones(model: PolyModel) -> list[str]:
    """Stops everything that features depend on from learning; the names of the groups concerned.

    Raises:
        ConfigError: no modality has a pretrained backbone.
    """
    frozen = []
    for name, embedder in model.embedders.items():
        if not isinstance(embedder, HasBackbone):
            continue
        parts = embedder.frozen_with_backbone
        found = [p for n, p in embedder.named_parameters() if n.partition(".")[0] in parts]
        for parameter in found:
            parameter.requires_grad_(False)
        if found:
            frozen.append(name)
    if not frozen:
        raise ConfigError("training.freeze_backbones: no modality of this model has a backbone", hint="Leave it out.")
    return frozen


def with_features(
    engine: Engine, store: ExampleStore, measured: Sequence[Sequence[Record]]
) -> tuple[Engine, ExampleStore]:
    """The engine and training rows of a run whose backbones are frozen: both read features.

    measured: the splits that the engine will be asked about; it answers for no other records.

    Raises:
        ConfigError: there is no backbone to freeze. SaveError: the features cannot be written.
    """
    groups = [g for g in freeze_backbones(engine.model) if engine.encoder.modalities[g].is_pretrained]
    engine.model.eval()
    key = hashlib.sha256(f"{_FORMAT}{frozen_digest(engine.model)}".encode()).hexdigest()[:16]
    folder = cache_dir() / "encoded"
    train = _computed(
        engine.model, lambda: (store[i] for i in range(len(store))), groups, folder / f"{store.path.stem}-{key}.arrow"
    )
    encoder = FeatureEncoder(engine.encoder)
    for records in measured:
        documents, digest = _read(engine.encoder, records)
        path = folder / f"measured-{digest}-{key}.arrow"
        encoder.add(documents, _computed(engine.model, lambda r=records: _examples(engine.encoder, r), groups, path))
    trim_cache(folder, keep=train.path)
    return Engine(engine.model, encoder, engine.tasks, batch_tokens=engine.batch_tokens), train


class FeatureEncoder(RowEncoder):
    """Answers for rows whose features were computed; what it is asked about must be those very records."""

    def __init__(self, encoder: RowEncoder) -> None:
        super().__init__(encoder.modalities, encoder.tasks, context=False)
        self.context = encoder.context
        self._found: dict[int, tuple[EncodedDocument, ExampleStore, range]] = {}

    def add(self, documents: Iterable[EncodedDocument], store: ExampleStore) -> None:
        """``store`` holds the examples of these documents, one after the other."""
        start = 0
        for document in documents:
            places = range(start, start + len(document.examples))
            self._found[id(document.records[0])] = document, store, places
            start = places.stop

    @property
    def workers(self) -> int:
        return 0

    def encode(self, records: Sequence[Record], *, with_targets: bool) -> EncodedDocument:
        document, store, places = self._found[id(records[0])]
        return dataclasses.replace(document, examples=[store[i] for i in places])


def _documents(encoder: RowEncoder, records: Sequence[Record]) -> Iterator[EncodedDocument]:
    def encode(group: list[Record]) -> EncodedDocument:
        return encoder.encode(group, with_targets=True)

    return ahead(encode, encoder.documents(records), workers=encoder.workers)


def _examples(encoder: RowEncoder, records: Sequence[Record]) -> Iterator[Example]:
    return (example for document in _documents(encoder, records) for example in document.examples)


def _read(encoder: RowEncoder, records: Sequence[Record]) -> tuple[list[EncodedDocument], str]:
    """The documents, with nothing in place of their examples (all pictures at once would fill the memory), and a hash
    of those.
    """
    content, documents = hashlib.sha256(), []
    for document in _documents(encoder, records):
        for example in document.examples:
            for owner, arrays in [*example.groups.items(), *example.targets.items()]:
                for name, array in arrays.items():
                    content.update(f"{owner}/{name}".encode())
                    content.update(np.ascontiguousarray(array).tobytes())
        documents.append(dataclasses.replace(document, examples=[None] * len(document.examples)))  # type: ignore[list-item]
    return documents, content.hexdigest()[:16]


def _computed(
    model: PolyModel, examples: Callable[[], Iterator[Example]], groups: Sequence[str], path: Path
) -> ExampleStore:
    if path.exists():
        path.touch()
        return ExampleStore(path)
    return ExampleStore.write(_features(model, examples(), groups), path)


def _features(model: PolyModel, examples: Iterator[Example], groups: Sequence[str]) -> Iterator[Example]:
    while True:
        chunk = list(islice(examples, _AT_ONCE))
        if not chunk:
            return
        yield from _chunk_features(model, chunk, groups)


def _chunk_features(model: PolyModel, chunk: Sequence[Example], groups: Sequence[str]) -> list[Example]:
    device = next(model.parameters()).device
    made: list[Example | None] = [None] * len(chunk)
    with torch.inference_mode():
        for ids in token_budget_batches([e.num_tokens for e in chunk], 1024, seed=None):
            batch = Batch.collate([chunk[i] for i in ids]).to(device)
            readers = {name: model.embedders[modality_of(name)] for name in batch.groups if modality_of(name) in groups}
            backbones = {name: reader for name, reader in readers.items() if isinstance(reader, HasBackbone)}
            found = {name: reader.features(batch.groups[name]) for name, reader in backbones.items()}
            for row, i in enumerate(ids):
                arrays = dict(chunk[i].groups)
                for name, embedded in found.items():
                    tokens = embedded.tokens[row][embedded.mask[row]]
                    beside = backbones[name].read_beside_features
                    kept = {key: array for key, array in arrays[name].items() if key in beside}
                    arrays[name] = {"features": tokens.float().cpu().numpy(), **kept}
                made[i] = dataclasses.replace(chunk[i], groups=arrays, cost=chunk[i].num_tokens)
    return [example for example in made if example is not None]
