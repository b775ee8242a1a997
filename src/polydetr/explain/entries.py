"""Where the values of each modality enter the network as vectors, so that these can be seen, and replaced.

Text enters where the embeddings of its tokens meet the backbone's first layer, a picture as its normalised pixels, a
table's cell and a history's item as the token that the encoder attends over.

Shapes: B rows, K numbers a row (all vectors of the modality, laid end to end).
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

from polydetr.backbones.bert import BertEncoder
from polydetr.embedders.text import TextEmbedder
from polydetr.embedders.text_subwords import of_positions, subwords_of_positions
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


class TextEntry(Entry):
    """The sum of a backbone's embeddings; of a foreign one, its word vectors and the word shapes added to them. The
    positions of one subword (``modalities.text_subwords``) have equal shares of its vector.
    """

    def _as_vectors(self, there: Tensor, group: TokenGroup) -> Tensor:
        if "first_position" not in group.values:
            return there
        subword, share = subwords_of_positions(group.values["first_position"], group.mask)
        return of_positions(there, subword) * share[..., None]

    def _as_flow(self, vectors: Tensor, there: Tensor, group: TokenGroup) -> Tensor:
        if "first_position" not in group.values:
            return vectors.reshape(there.shape)
        subword, _ = subwords_of_positions(group.values["first_position"], group.mask)
        own = vectors.reshape(*subword.shape, -1)
        return torch.zeros_like(there).scatter_add(1, subword[..., None].expand_as(own), own)

    def _hooks(self, look: Look) -> list[RemovableHandle]:
        assert isinstance(self.embedder, TextEmbedder)
        backbone = self.embedder.backbone
        sites: list[nn.Module]
        if isinstance(backbone, BertEncoder):
            sites = [backbone.embeddings]
        else:
            sites = [backbone.model.get_input_embeddings()]  # type: ignore[union-attr, operator]
            if self.embedder.shape_embedding is not None:
                sites.append(self.embedder.shape_embedding)

        def put(number: int) -> Callable[[nn.Module, object, Tensor], Tensor]:
            return lambda module, inputs, output: look(number, output)

        return [site.register_forward_hook(put(i)) for i, site in enumerate(sites)]


class PixelEntry(Entry):
    """What the image backbone is given: (x - mean) / std."""

    def _hooks(self, look: Look) -> list[RemovableHandle]:
        backbone: nn.Module = self.embedder.backbone  # type: ignore[assignment]
        return [backbone.register_forward_pre_hook(lambda module, inputs: (look(0, inputs[0]), *inputs[1:]))]


class TokenEntry(Entry):
    """What the embedder gives: one vector a column, or an item."""

    def _hooks(self, look: Look) -> list[RemovableHandle]:
        def put(module: nn.Module, inputs: object, output: Embedded) -> Embedded:
            return replace(output, tokens=look(0, output.tokens))

        return [self.embedder.register_forward_hook(put)]
