"""Where the values of a modality enter the network as vectors, so that these can be captured, and replaced.

Most enter as the tokens that the shared encoder attends over. A text enters where the embeddings of its tokens meet the
backbone's first layer, an image as its normalized pixels.

Shapes: B rows, L tokens of a group, K numbers per row (all vectors of the modality, laid end to end).
"""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from polydetr.nn.batch import Embedded, TokenGroup

Look = Callable[[int, Tensor], Tensor]
"""(number of the site, what flows there) → what is to flow on."""


class Entry(ABC):
    """One embedder's. Parameters are not touched; other threads that use the same model, and other groups that pass
    through the same embedder (a history's texts), see nothing of it.
    """

    def __init__(self, embedder: nn.Module) -> None:
        self.embedder = embedder

    def capture(self, group: TokenGroup) -> Tensor:
        """(B, K): the vectors of these values."""
        seen: list[Tensor] = []

        def look(number: int, there: Tensor) -> Tensor:
            seen.append(there.detach())
            return there

        with torch.no_grad(), self._opened(group, look):
            self.embedder(group)
        return self._as_vectors(torch.stack(seen).sum(0), group).reshape(len(group.mask), -1)

    @contextmanager
    def replaced(self, group: TokenGroup, vectors: Tensor) -> Iterator[None]:
        """While it lasts, ``vectors`` (B, K) enter the network in place of those of ``group``, this very object."""

        def look(number: int, there: Tensor) -> Tensor:
            return self._as_flow(vectors, there, group) if number == 0 else torch.zeros_like(there)

        with self._opened(group, look):
            yield

    @contextmanager
    def _opened(self, group: TokenGroup, look: Look) -> Iterator[None]:
        here = threading.get_ident()
        inside = False

        def enter(module: nn.Module, inputs: tuple[TokenGroup]) -> None:
            nonlocal inside
            inside = inside or (inputs[0] is group and threading.get_ident() == here)

        def leave(module: nn.Module, inputs: tuple[TokenGroup], output: object) -> None:
            nonlocal inside
            inside = inside and not (inputs[0] is group and threading.get_ident() == here)

        def looked(number: int, there: Tensor) -> Tensor:
            return look(number, there) if inside and threading.get_ident() == here else there

        handles = [self.embedder.register_forward_pre_hook(enter)]
        try:
            handles += self._hooks(looked)
            handles.append(self.embedder.register_forward_hook(leave))
            yield
        finally:
            for handle in handles:
                handle.remove()

    def _as_vectors(self, there: Tensor, group: TokenGroup) -> Tensor:
        """What flows through the sites as the vectors of the group's values."""
        return there

    def _as_flow(self, vectors: Tensor, there: Tensor, group: TokenGroup) -> Tensor:
        """The inverse, in the shape of ``there``."""
        return vectors.reshape(there.shape)

    @abstractmethod
    def _hooks(self, look: Look) -> list[RemovableHandle]:
        """Puts ``look`` on every site; what flows through the sites, added up, is what enters."""


class InputEntry(Entry):
    """What one module inside the embedder is given first."""

    def __init__(self, embedder: nn.Module, inside: nn.Module) -> None:
        super().__init__(embedder)
        self.inside = inside

    def _hooks(self, look: Look) -> list[RemovableHandle]:
        return [self.inside.register_forward_pre_hook(lambda module, inputs: (look(0, inputs[0]), *inputs[1:]))]


class TokenEntry(Entry):
    """What the embedder gives: one vector per token."""

    def _hooks(self, look: Look) -> list[RemovableHandle]:
        def put(module: nn.Module, inputs: object, output: Embedded) -> Embedded:
            return replace(output, tokens=look(0, output.tokens))

        return [self.embedder.register_forward_hook(put)]
