"""What explanations see inside a network that computes by PyTorch (``explain.insides``)."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from polydetr.core.examples import Example
from polydetr.engine.engine import Engine
from polydetr.explain.attribution import Attribution
from polydetr.explain.case import Case
from polydetr.explain.result import ROLLOUT
from polydetr.heads.explained import HasGradients, ShowsGaze
from polydetr.modalities.units import Scores
from polydetr.model.attention_maps import attention_between_words, attention_by_modality, attention_layers, rollout
from polydetr.model.gradients import JointPath, integrated_gradients
from polydetr.model.model import PolyModel
from polydetr.model.precision import Precision, apply
from polydetr.model.runner import TorchRunner
from polydetr.nn.batch import Batch

ATTENTION_WORDS = 256
"""Beyond so many words the table of attention is left out: it grows with their square."""


@dataclass(frozen=True)
class TorchInsides:
    """See ``explain.insides.Insides``."""

    engine: Engine
    model: PolyModel

    @classmethod
    def of(cls, engine: Engine, model: PolyModel) -> TorchInsides:
        """``model``, which computes for ``engine``, and the engine itself where it computes in float32; else copies."""
        in_int8 = any(getattr(module, "int8", False) for module in model.modules())  # of weights in float32
        if not in_int8 and all(p.dtype == torch.float32 for p in model.parameters()):
            return cls(engine, model)
        model = copy.deepcopy(model)
        apply(model, Precision("fp32"))
        return cls(engine.with_runner(TorchRunner(model)), model)

    def attributed(self, case: Case) -> tuple[Attribution, Scores] | None:
        head, answer = self.model.head_of(case.task.target), case.answer
        if not isinstance(head, HasGradients):
            return None
        parts, examples = case.units.parts, case.document.examples

        def blanked(window: int, example: Example) -> Example:
            blank = {part.group: part.blank(example.groups[part.group], window) for part in parts}
            return replace(example, groups={**example.groups, **blank})

        path = JointPath(
            self.model,
            self._batch(examples),
            blank=self._batch([blanked(window, example) for window, example in enumerate(examples)]),
            entries={part.group: self.model.embedder_of(part.group).entry() for part in parts},
            target=case.task.target,
            score=lambda outputs: head.explained(answer, outputs),
        )
        attribution = integrated_gradients(path.value_and_gradient, path.x, path.baseline, at_once=path.at_once)
        by_group = path.by_group(attribution.scores)
        return attribution, np.concatenate([part.scores(by_group[part.group]) for part in parts])

    def between_words(self, case: Case) -> tuple[dict[str, NDArray[np.float64]], list[str]]:
        text = case.units.text
        assert text is not None
        count, is_known = len(text), True
        if count > ATTENTION_WORDS:
            return {}, [f"Attention is not shown: {count} words, and the table is made for up to {ATTENTION_WORDS}."]
        tables: dict[str, list[np.ndarray]] = {}
        for example in case.document.examples:
            layers, is_known = attention_layers(self.model, self._batch([example]), group=text.group)
            rolled: dict[str, Tensor] = {name: rollout(part) for name, part in layers.items()}
            if layers:
                rolled[ROLLOUT] = rollout([weights for part in layers.values() for weights in part])
            for name, table in rolled.items():
                tables.setdefault(name, []).append(table[0].cpu().numpy())
        notes = []
        if not is_known:
            notes.append("Attention inside this backbone is not shown: only BERT-like backbones can be looked into.")
        return {name: attention_between_words(parts, text.windows, count) for name, parts in tables.items()}, notes

    def by_modality(self, case: Case) -> dict[str, float]:
        return attention_by_modality(self.model, self._batch(case.document.examples))

    def gaze(self, case: Case) -> NDArray[np.float64] | None:
        target = case.task.target
        head, batch = self.model.head_of(target), self._batch(case.document.examples[:1])
        if not isinstance(head, ShowsGaze):
            return None
        return head.looked_at(case.answer, case.reading, lambda: self.model(batch, [target]))

    def _batch(self, examples: Sequence[Example]) -> Batch:
        """These windows of the row, where the model computes."""
        return TorchRunner(self.model).batch(examples)
