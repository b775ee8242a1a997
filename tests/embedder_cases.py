"""One small embedder of every kind, with the modality that feeds it and rows of all sorts for it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from polydetr import embedders
from polydetr.config.sections import Config, HistoryConfig, ImageConfig, TableConfig, TextConfig
from polydetr.core.examples import Example
from polydetr.embedders.base import Embedder
from polydetr.modalities.base import BuildContext, Modality, Needs
from polydetr.modalities.history import HistoryModality
from polydetr.modalities.image import ImageModality
from polydetr.modalities.table import TableModality
from polydetr.modalities.text import TextModality
from polydetr.nn.batch import Batch, TokenGroup
from polydetr.schema.spec import FieldSpec
from polydetr.specs.image import ImageSpec
from polydetr.specs.scratch import scratch_spec
from tiny_pieces import backbone

WORDS = ["amber", "birch", "cobalt", "dune", "ember", "fjord"]
TEXTS = ["amber birch", "", "cobalt dune ember fjord amber", "dune"]
ENCODER = {"stem": 4, "blocks": [[1, 4, 1, 2, 3], [2, 6, 1, 2, 3], [2, 8, 1, 2, 5], [2, 8, 1, 2, 3]], "head": 12}
NONE = Needs()


def picture(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (24 + seed, 20, 3), dtype=np.uint8)


def text(*fields: str, needs: Needs = NONE, **config: Any) -> TextModality:
    spec = scratch_spec(WORDS * 3, vocab_size=60, hidden_dim=16, max_positions=64)
    return TextModality(fields, spec, config=TextConfig(**{"max_tokens": 24, **config}), needs=needs)


def subwords() -> TextModality:
    """A backbone of two layers that reads subwords, of which characters are answered."""
    return TextModality(["text"], backbone(), config=TextConfig(max_tokens=24), needs=Needs(by_word=True, words=True))


def convolutions() -> ImageSpec:
    config = {"architecture": "inverted-residuals", "encoder": ENCODER}
    return ImageSpec("small", config, 12, 32, 5, (0.5,) * 3, (0.25,) * 3)


def image(*fields: str, needs: Needs = NONE, **config: Any) -> ImageModality:
    return ImageModality(fields, convolutions(), config=ImageConfig(**{"size": 64, **config}), needs=needs)


def table(count: int = 9) -> TableModality:
    rows = [{"n": i, "c": WORDS[i % 3], "d": f"2024-0{1 + i}-02"} for i in range(count)]
    fields = [FieldSpec("n", "number"), FieldSpec("c", "category"), FieldSpec("d", "date")]
    config = Config(table=TableConfig(embedding="periodic", column_dropout=0.5))
    return TableModality.build(fields, BuildContext(rows, config))


def item(i: int) -> dict[str, Any]:
    return {"title": WORDS[i % 6], "photo": picture(i % 3) if i % 2 else None, "n": float(i)}


def history(**config: Any) -> HistoryModality:
    items = [FieldSpec("title", "text"), FieldSpec("photo", "image"), FieldSpec("n", "number")]
    rows = [{"seen": [item(i), item(i + 1)]} for i in range(6)]
    kinds = {field.name: field.modality for field in items}
    settings = HistoryConfig(**{"max_items": 3, "item_tokens": 8, "age": "n", "fields": kinds, **config})
    others = {"text": text("note"), "image": image("photo")}
    context = BuildContext(rows, Config(history=settings), others=others)
    return HistoryModality.build([FieldSpec("seen", "history")], context)


@dataclass(frozen=True)
class EmbedderCase:
    """fixed_length: where a graph knows how many entries a row has. nothing: a row with the least that can be read."""

    name: str
    modality: Callable[[], Modality]
    rows: Sequence[Mapping[str, Any]]
    fixed_length: int | None = None
    nothing: Mapping[str, Any] = field(default_factory=dict)

    def make(self) -> tuple[Modality, Embedder]:
        """The modality and an embedder with random weights, none of which is zero."""
        torch.manual_seed(0)
        modality = self.modality()
        others: dict[str, Any] = {}
        for name, part in getattr(modality, "parts", {}).items():
            others[name] = embedders.build(part, embed_dim=16, others={})
        embedder = embedders.build(modality, embed_dim=16, others=others)
        with torch.no_grad():
            for owner in (embedder, *others.values()):
                for parameter in owner.parameters():
                    parameter.add_(0.05 * torch.randn_like(parameter))
        return modality, embedder


def group_of(modality: Modality, rows: Sequence[Mapping[str, Any]]) -> TokenGroup:
    examples = [Example({modality.name: modality.encode([row]).windows[0].arrays}) for row in rows]
    return Batch.collate(examples).groups[modality.name]


CASES = [
    EmbedderCase("text", lambda: text("note"), [{"note": t} for t in TEXTS]),
    EmbedderCase("text-pair", lambda: text("note", "more"), [{"note": t, "more": "dune amber"} for t in TEXTS]),
    EmbedderCase(
        "subwords", subwords, [{"text": t} for t in ("北京大学的学生", "the cat", "北京", "125%大学U.S.")],
        nothing={"text": ""},
    ),
    EmbedderCase(
        "image", lambda: image("photo"),
        [{"photo": picture(0)}, {"photo": [picture(1), picture(2)]}, {}, {"photo": picture(3)}],
    ),
    EmbedderCase(
        "image-fields", lambda: image("front", "back"),
        [{"front": picture(0), "back": [picture(1), picture(2)]}, {"back": picture(3)}, {}, {"front": picture(4)}],
    ),
    EmbedderCase(
        "image-maps", lambda: image("photo", needs=Needs(frames=True), max_images=1),
        [{"photo": picture(0)}, {"photo": picture(1)}, {}, {"photo": picture(2)}], fixed_length=1,
    ),
    EmbedderCase(
        "table", table, [{"n": 2, "c": "amber", "d": "2024-03-02"}, {"n": None, "c": "new"}, {"d": "2024-01-02"}, {}],
        fixed_length=3,
    ),
    EmbedderCase(
        "history", history,
        [{"seen": [item(i) for i in (1, 2, 1)]}, {"seen": [item(3)]}, {}, {"seen": [item(4), {"title": "dune"}]}],
    ),
]  # fmt: skip
