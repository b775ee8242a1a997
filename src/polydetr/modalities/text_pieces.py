"""Chinese, Japanese and Thai in the pieces that a backbone was pretrained on, answered character by character.

A SentencePiece vocabulary joins characters (北京, 大学). One token a character would show the backbone sequences unlike
any it was pretrained on, and half again as long; one answer a piece could not tell apart what a piece joins. So such a
stretch is cut as the tokenizer cuts it, every word (here: character) of a piece gets a *slot* of its own in the
sequence that tasks see, and the backbone reads only the first slot of each piece, its *lead*.
``PieceReader`` then tells the slots of one piece apart.

Shape legend: B texts, L slots, P pieces of the longest text (P ≤ L), D width.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from polydetr.values.spans import UNSPACED

if TYPE_CHECKING:
    from tokenizers import Tokenizer

_FAR = 3
"""Places beyond the fourth character of a piece, from its beginning and from its end, are not told apart."""
NUM_PLACES = 1 + (_FAR + 1) ** 2
_RUN = re.compile(rf"[{UNSPACED}]+")
_JOINED = re.compile(rf"[{UNSPACED}]{{2}}")


class Slots(NamedTuple):
    """The slots of some neighbouring words: ``counts`` how many each word has; one entry a slot: piece id, first and
    end character counted from its word's first, whether it is its piece's lead, and its place in the piece (0: alone).
    """

    ids: Sequence[int]
    start: Sequence[int]
    end: Sequence[int]
    counts: Sequence[int]
    lead: Sequence[int]
    place: Sequence[int]


def joins_characters(tokenizer: Tokenizer) -> bool:
    """Whether any piece of its vocabulary spans several characters of a script written without spaces."""
    return any(_JOINED.search(piece) for piece in tokenizer.get_vocab())


def runs(text: str, words: Sequence[tuple[int, int]]) -> Iterator[tuple[int, int]]:
    """(first, end) numbers of ``words`` that go together: neighbours of an unspaced script with nothing between them,
    any other word alone.
    """
    i = 0
    while i < len(words):
        begin = i
        match = _RUN.match(text, words[i][0])
        i += 1
        while match and i < len(words) and words[i][0] == words[i - 1][1] and words[i][0] < match.end():
            i += 1
        yield begin, i


def cut_run(pieces: Sequence[tuple[int, int, int]], words: Sequence[tuple[int, int]], *, unknown: int) -> Slots:
    """Slots of a run from its pieces (id, first, end character): one for each overlap of a piece with a word.

    A word that no piece shows (the tokenizer dropped it) gets the ``unknown`` piece.
    """
    parts: list[list[tuple[int, int, int, int]]] = [[] for _ in words]  # (piece, id, first, end) a word
    low = 0
    for number, (piece, begin, stop) in enumerate(pieces):
        while low < len(words) and words[low][1] <= begin:
            low += 1
        at = low
        while at < len(words) and words[at][0] < stop:
            first, end = words[at]
            parts[at].append((number, piece, max(begin - first, 0), min(stop, end) - first))
            at += 1
    sizes: dict[int, int] = {}
    for part in parts:
        for number, *_ in part:
            sizes[number] = sizes.get(number, 0) + 1
    ids, start, end, lead, place, seen = [], [], [], [], [], {}
    for (a, b), part in zip(words, parts, strict=True):
        found = part or [(-1, unknown, 0, b - a)]
        for k, (number, piece, first, stop) in enumerate(found):
            before = seen.get(number, 0) if part else 0
            seen[number] = before + 1
            ids.append(piece)
            # A tokenizer may drop marks at a word's edges; the word has them all the same.
            start.append(first if k else 0)
            end.append(stop if k < len(found) - 1 else b - a)
            lead.append(before == 0)
            place.append(place_of(before, sizes.get(number, 1)))
    return Slots(ids, start, end, [max(1, len(p)) for p in parts], lead, place)


def place_of(index: int, count: int) -> int:
    """The number of "the ``index``-th of ``count`` slots": 0 where the slot has its piece to itself."""
    return 0 if count == 1 else 1 + (_FAR + 1) * min(index, _FAR) + min(count - 1 - index, _FAR)


class PieceReader(nn.Module):
    """What one slot of a shared piece is, beyond what the piece is: h + W₂ gelu(W₁ h + place). (B, L, D), (B, L) →
    (B, L, D).

    Slots that have their piece to themselves stay as they are. Begins as no change at all.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.up = nn.Linear(width, width)
        self.places = nn.Embedding(NUM_PLACES, width)
        self.down = nn.Linear(width, width)
        nn.init.normal_(self.places.weight, std=0.5)
        nn.init.zeros_(self.down.weight)
        nn.init.zeros_(self.down.bias)

    def forward(self, hidden: Tensor, place: Tensor) -> Tensor:
        change = self.down(F.gelu(self.up(hidden) + self.places(place)))
        return hidden + change.masked_fill((place == 0)[..., None], 0.0)


def through_pieces(
    backbone: Callable[[Mapping[str, Tensor], Tensor], Tensor], values: Mapping[str, Tensor], mask: Tensor
) -> Tensor:
    """Runs ``backbone`` over the leads alone and gives every slot what its piece became: (B, L, D).

    values: named (B, L) tensors, among them "lead"; the backbone gets the others, (B, P), and their mask.
    """
    lead = values["lead"].bool() & mask
    counts = lead.sum(1)
    longest = max(1, int(counts.max()))
    places = torch.argsort(~lead, dim=1, stable=True)[:, :longest]
    short = {name: value.gather(1, places) for name, value in values.items() if name not in ("lead", "place")}
    hidden = backbone(short, torch.arange(longest, device=mask.device) < counts[:, None])
    return of_slots(hidden, pieces_of_slots(values["lead"], mask)[0])


def pieces_of_slots(lead: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """(B, L) the number of each slot's piece in its text, and (B, L) its share of that piece: one over how many slots
    the piece has, 0 at padding.
    """
    piece = ((lead.bool() & mask).cumsum(1) - 1).clamp(min=0)
    sizes = torch.zeros(piece.shape, device=piece.device).scatter_add(1, piece, mask.float())
    return piece, mask / sizes.gather(1, piece).clamp(min=1)


def of_slots(pieces: Tensor, piece: Tensor) -> Tensor:
    """(B, P, D), (B, L) → (B, L, D): every slot has what its piece has."""
    return pieces.gather(1, piece[..., None].expand(-1, -1, pieces.shape[-1]))
