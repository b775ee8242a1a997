"""Where the values of a modality enter the network as vectors, so that these can be captured, and replaced.

Most enter as the tokens that the shared encoder attends over; a text as the input of the backbone's first layer, an
image as its normalized pixels.

Shapes: B rows, L tokens of a group, K numbers per row (all vectors of the modality, concatenated).
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
"""(number of the site, its activations) → the activations that replace them."""


class Entry(ABC):
    """The entry of one embedder: sites inside of it, whose activations add up to the vectors that enter. Parameters are
    not changed; other threads that use the same model, and other groups that pass through the same embedder (a
    history's texts), are not affected.
    """

    def __init__(self, embedder: nn.Module) -> None:
        self.embedder = embedder

    def capture(self, group: TokenGroup) -> Tensor:
        """(B, K): the vectors of these values."""
        captured: list[Tensor] = []

        def look(number: int, activations: Tensor) -> Tensor:
            captured.append(activations.detach())
            return activations

        with torch.no_grad(), self._opened(group, look):
            self.embedder(group)
        return self._as_vectors(torch.stack(captured).sum(0), group).reshape(len(group.mask), -1)

    @contextmanager
    def replaced(self, group: TokenGroup, vectors: Tensor) -> Iterator[None]:
        """Inside the context, ``vectors`` (B, K) enter the network in place of those of ``group``, this very object."""

        def look(number: int, activations: Tensor) -> Tensor:
            return self._as_activations(vectors, activations, group) if number == 0 else torch.zeros_like(activations)

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

        def look_inside(number: int, activations: Tensor) -> Tensor:
            return look(number, activations) if inside and threading.get_ident() == here else activations

        handles = [self.embedder.register_forward_pre_hook(enter)]
        try:
            handles += self._hooks(look_inside)
            handles.append(self.embedder.register_forward_hook(leave))
            yield
        finally:
            for handle in handles:
                handle.remove()

    def _as_vectors(self, activations: Tensor, group: TokenGroup) -> Tensor:
        """The sum of the sites' activations as the vectors of the group's values."""
        return activations

    def _as_activations(self, vectors: Tensor, activations: Tensor, group: TokenGroup) -> Tensor:
        """The inverse, in the shape of ``activations``."""
        return vectors.reshape(activations.shape)

    @abstractmethod
    def _hooks(self, look: Look) -> list[RemovableHandle]:
        """Registers ``look`` on every site."""


class InputEntry(Entry):
    """At the first input of the module ``inside`` the embedder."""

    def __init__(self, embedder: nn.Module, inside: nn.Module) -> None:
        super().__init__(embedder)
        self.inside = inside

    def _hooks(self, look: Look) -> list[RemovableHandle]:
        return [self.inside.register_forward_pre_hook(lambda module, inputs: (look(0, inputs[0]), *inputs[1:]))]


class TokenEntry(Entry):
    """At the embedder's output: one vector per token."""

    def _hooks(self, look: Look) -> list[RemovableHandle]:
        def put(module: nn.Module, inputs: object, output: Embedded) -> Embedded:
            return replace(output, tokens=look(0, output.tokens))

        return [self.embedder.register_forward_hook(put)]
