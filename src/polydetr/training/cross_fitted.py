"""Answers to rows by models that had not seen them: what measures and calibrates where no row can be spared."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence

import numpy as np
import torch

from polydetr.core.documents import EncodedDocument
from polydetr.core.examples import Example
from polydetr.core.runner import Outputs
from polydetr.model.build import Assembly
from polydetr.model.runner import Listener, TorchRunner


class CrossFittedRunner(TorchRunner):
    """A runner whose outputs were computed beforehand: target → (windows, C) logits, by the number of the window among
    those of ``documents``, all of which it is asked for in their order.
    """

    def __init__(self, runner: TorchRunner, logits: Mapping[str, np.ndarray]) -> None:
        super().__init__(runner.model)
        self.logits = {target: array.astype(np.float32) for target, array in logits.items()}

    def listened_by(self, listener: Listener) -> CrossFittedRunner:
        other = copy.copy(self)
        other._listener = listener
        return other

    def run(
        self, examples: Sequence[Example], targets: Sequence[str], *, seed: int, numbers: Sequence[int]
    ) -> list[Outputs]:
        if self._listener is not None:
            rows = list(numbers)
            outputs = {t: {"logits": torch.from_numpy(array[rows])} for t, array in self.logits.items()}
            self._listener(outputs, self.batch(list(examples), rows))
        return [{t: {"logits": self.logits[t][number]} for t in targets} for number in numbers]


def cross_fitted(assembly: Assembly, documents: Sequence[EncodedDocument], target: str, logits: np.ndarray) -> Assembly:
    """The model as it answers ``documents`` for ``target``, by the logits (documents, C) of models that had not seen
    them.
    """
    windows = np.repeat(np.arange(len(documents)), [len(document.examples) for document in documents])
    runner = CrossFittedRunner(assembly.runner, {target: logits[windows]})
    return Assembly(assembly.model, assembly.engine.with_runner(runner), runner)
