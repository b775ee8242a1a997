"""A label per word, from its first token."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import numpy as np
import torch.nn.functional as F
from torch import Tensor, nn

from polydetr.core.examples import IGNORE_INDEX
from polydetr.core.layout import Layout
from polydetr.heads.base import DROPOUT, EncoderShape, Head, Tensors
from polydetr.heads.explained import Counterpart, Reading, SmoothAnswer, numbered, words_between
from polydetr.nn.batch import Encoded
from polydetr.tasks.base import details_of, log_softmax
from polydetr.tasks.tagging import TagDetails, TaggingTask


class TokenHead(nn.Module):
    """A linear output over every token of the text: "logits" (B, L, num_labels)."""

    def __init__(self, embed_dim: int, num_labels: int, *, dropout: float = DROPOUT) -> None:
        super().__init__()
        self.dropout = nn.Dropout(dropout)
        self.output = nn.Linear(embed_dim, num_labels)

    def forward(self, encoded: Encoded) -> dict[str, Tensor]:
        return {"logits": self.output(self.dropout(encoded.tokens["text"]))}


class TaggingHead(TokenHead, Head):
    """Cross-entropy, a mean over labeled words."""

    def __init__(self, embed_dim: int, num_labels: int, *, label_smoothing: float = 0.0) -> None:
        super().__init__(embed_dim, num_labels)
        self.label_smoothing = label_smoothing

    @classmethod
    def from_task(cls, task: TaggingTask, shape: EncoderShape, *, label_smoothing: float = 0.0) -> Self:
        return cls(shape.embed_dim, len(task.labels), label_smoothing=label_smoothing)

    def loss(self, outputs: Tensors, targets: Tensors, weights: Tensor) -> dict[str, Tensor]:
        labels = targets["labels"]
        here = labels != IGNORE_INDEX
        logits = outputs["logits"][here].float()
        total = F.cross_entropy(logits, labels[here], reduction="sum", label_smoothing=self.label_smoothing)
        return {"cross_entropy": total / here.sum().clamp(min=1)}

    def counted(self, targets: Tensors, weights: Tensor) -> Tensor:
        return (targets["labels"] != IGNORE_INDEX).sum().to(weights.dtype)

    def calibration_pairs(self, outputs: Tensors, targets: Tensors) -> tuple[Tensor, Tensor] | None:
        here = targets["labels"] != IGNORE_INDEX
        return outputs["logits"].float()[here], targets["labels"][here]

    @classmethod
    def answer_of(cls, task: TaggingTask, reading: Reading, choice: Any, *, counterpart: Counterpart) -> TagAnswer:
        """choice: the number of an entity, from 0."""
        entities: list[dict[str, Any]] = reading.prediction.value
        details = details_of(reading.prediction, TagDetails)
        number = numbered(choice, len(entities), "entities")
        if entities:
            chosen = entities[number] if number is not None else max(entities, key=lambda e: e["probability"])
            words = words_between(reading.text, chosen["start"], chosen["end"])
            shown = f"{chosen['text']} = {chosen['label']} ({chosen['probability']:.1%})"
        else:  # explain the word that came nearest to being an entity
            confidence = details.word_probability
            words = [int(np.argmin(confidence))]
            start, end = reading.text.words[words[0]]
            shown = f"no entity; nearest: {reading.text.text[start:end]} = O ({confidence[words[0]]:.1%})"
        labels = tuple(task.labels.index(details.tags[i]) for i in words)
        owners = tuple(_owning_tokens(reading.layouts, words))
        return TagAnswer(shown, labels, task.temperature, owners, words=tuple(words))


@dataclass(frozen=True)
class TagAnswer(SmoothAnswer):
    """The sum of the tag log probabilities of an entity's words, each in the window that ``decode`` takes it from.

    labels: of each word, the number of its tag; owners: of each word, (window, token) of its first token.
    """

    quantity: ClassVar[str] = "log probability"
    labels: tuple[int, ...]
    temperature: float
    owners: tuple[tuple[int, int], ...]

    def score(self, outputs: Tensors) -> Tensor:
        windows, tokens = map(list, zip(*self.owners, strict=True))
        log_p = (outputs["logits"][:, windows, tokens] / self.temperature).log_softmax(-1)  # (n, words, C)
        return log_p[:, range(len(self.labels)), self.labels].sum(1)

    def probability(self, reading: Reading) -> float:
        owners = _owning_tokens(reading.layouts, self.words)
        log_p = [log_softmax(reading.outputs[w]["logits"][t], self.temperature) for w, t in owners]
        return float(np.exp(min(p[label] for p, label in zip(log_p, self.labels, strict=True))))


def _owning_tokens(layouts: Sequence[Layout], words: Sequence[int]) -> list[tuple[int, int]]:
    """(window, token) of each word's first token, in the window with most context around it: the rule of ``decode``."""
    owners = []
    for word in words:
        best, owner = -1, (0, 0)
        for w, layout in enumerate(layouts):
            for t in np.flatnonzero(layout.first & (layout.word == word)):
                if layout.margin[t] > best:
                    best, owner = int(layout.margin[t]), (w, int(t))
        owners.append(owner)
    return owners
