"""Writes a small E5S1 file, so that its reader is tested against numbers that the test knows."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np

HIDDEN, LAYERS, HEADS, FFN, POSITIONS, SEGMENTS = 64, 2, 2, 96, 11, 2
PIECES = ["<s>", "<pad>", "</s>", "<unk>", "▁", "▁a", "b", "ab", "▁北京", "é", "<mask>"]
SCORES = [0.0, 0.0, 0.0, 0.0, -2.0, -3.0, -4.0, -3.5, -5.0, -6.0, 0.0]
VOCAB = len(PIECES) + 2  # the published file, too, has more rows than pieces


def quantised(rng: np.random.Generator, shape: tuple[int, ...]) -> tuple[bytes, np.ndarray]:
    """Random Q4_0 blocks and the fp32 numbers that they mean, worked out one by one."""
    count = int(np.prod(shape))
    raw, numbers = b"", []
    for _ in range(count // 32):
        scale = np.float16(rng.uniform(0.001, 0.1))
        nibbles = rng.integers(0, 16, 32)
        raw += scale.tobytes() + bytes(int(nibbles[i] | nibbles[i + 16] << 4) for i in range(16))
        numbers += [float(scale) * (int(n) - 8) for n in nibbles]
    return raw, np.array(numbers, np.float32).reshape(shape)


def tensor_shapes() -> dict[str, tuple[int, ...]]:
    shapes: dict[str, tuple[int, ...]] = {
        "emb.word": (VOCAB, HIDDEN),
        "emb.pos": (POSITIONS, HIDDEN),
        "emb.type": (1, HIDDEN),
        "emb.ln.w": (HIDDEN,),
        "emb.ln.b": (HIDDEN,),
    }
    for layer in range(LAYERS):
        for part in ("q", "k", "v", "ao", "fi", "fo", "aln", "oln"):
            rows, columns = {"fi": (FFN, HIDDEN), "fo": (HIDDEN, FFN)}.get(part, (HIDDEN, HIDDEN))
            shapes[f"l{layer}.{part}.w"] = (rows,) if part in ("aln", "oln") else (rows, columns)
            shapes[f"l{layer}.{part}.b"] = (rows,)
    return shapes


def write_e5s1(path: Path, *, seed: int = 0, **changed: int) -> dict[str, np.ndarray]:
    """Writes the file and returns every tensor by the file's name. ``changed`` overrides header fields."""
    rng = np.random.default_rng(seed)
    sizes = {
        "version": 1,
        "hidden": HIDDEN,
        "layers": LAYERS,
        "heads": HEADS,
        "ffn": FFN,
        "vocab": VOCAB,
        "positions": POSITIONS,
        "segments": SEGMENTS,
        "block": 32,
        "unk": 3,
    } | changed
    head = b"E5S1" + struct.pack("<I", sizes["version"])
    names = ("hidden", "layers", "heads", "ffn", "vocab", "positions", "segments")
    head += struct.pack("<7ifi", *(sizes[n] for n in names), 1e-12, sizes["block"])
    encoded = [p.encode() for p in PIECES]
    head += struct.pack("<5iQ", len(PIECES), 0, 2, 1, sizes["unk"], sum(map(len, encoded)))
    head += np.cumsum([0, *map(len, encoded)]).astype("<u4").tobytes() + np.array(SCORES, "<f4").tobytes()
    head += b"".join(encoded)
    table = struct.pack("<IB2I", 0xFB01, 2, ord("f"), ord("i"))
    head += struct.pack("<iI", 1, len(table)) + table
    expected, blobs = {}, {}
    for name, shape in tensor_shapes().items():
        if name == "emb.word" or (name.endswith(".w") and len(shape) == 2):
            blobs[name], expected[name] = quantised(rng, shape)
        else:
            expected[name] = rng.normal(size=shape).astype(np.float32)
            blobs[name] = expected[name].tobytes()
    directory_size = 4 + sum(2 + len(n) + 1 + 4 + 16 for n in blobs)
    offset, directory, data = len(head) + directory_size, struct.pack("<i", len(blobs)), b""
    for name, blob in blobs.items():
        kind = int(len(blob) != 4 * expected[name].size)
        directory += struct.pack("<H", len(name)) + name.encode()
        directory += struct.pack("<BIQQ", kind, expected[name].size, offset + len(data), len(blob))
        data += blob
    path.write_bytes(head + directory + data)
    return expected
