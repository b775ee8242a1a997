"""Graphs whose large linear layers multiply 8-bit integers, as ``nn.cpu.int8`` does it in PyTorch.

    y = x W + b,    x ≈ s (u - z),  u in 0 … 255,  s and z per token;    W ≈ t V,  V in -64 … 64,  t per output
    x W ≈ s · t · (u V - z Σ_i V_i)     the products in whole numbers; Σ_i over the inputs

Scale and zero of a token are found anew, from that token alone: the other texts of a batch do not change its outputs
(vector-wise quantization, Dettmers et al. 2022, arXiv 2208.07339, section 3.1). ONNX Runtime's own dynamic quantization
takes one scale for all of a batch. Its products know no zero per row either; so z stands behind u, in some columns
more, and V has as many rows more, whole numbers whose sum is -Σ_i V_i. Biases, and what stands between the products,
stay in float32.

Measured with ONNX Runtime 1.32 on a CPU with avx512_vnni, one thread, 1,024 tokens, times as fast as in float32 at
384 × 1,536 / 1,536 × 384: with a scale per token 2.2 / 1.8; ``DynamicQuantizeMatMul``, one scale per batch, 3.2 / 2.7;
``MatMulNBits`` of 8 bits with ``accuracy_level`` 4 in its best blocks 1.0 / 1.3; ``MatMulInteger`` on signed integers
0.2 / 0.2.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable
from typing import Any

import numpy as np
import onnx
from onnx import NodeProto, TensorProto, numpy_helper
from onnx.helper import make_node, make_opsetid

LEAST = 128
"""Inputs and outputs of a layer that is worth it: roundings cost as much as so small a product."""
OPSET = 21
"""The first in which ``QuantizeLinear`` takes a scale for each row."""
IR_VERSION = 10
"""The first that has it."""
CONTRIB = "com.microsoft"
_SMALLEST = 1e-28
"""Scales are no smaller."""
_WEIGHT_STEPS = 64
"""A processor without VNNI adds two products of a byte and a weight in 16 bits: 2 · 255 · 64 is what they hold."""
_INPUT_STEPS = 254
"""From the smallest to the largest value of a token: one less than a byte has, as the zero is rounded too."""


def quantized(model: onnx.ModelProto) -> onnx.ModelProto:
    """The graph with each product of a token by a constant matrix of at least ``LEAST`` × ``LEAST`` in 8-bit integers;
    the same one where it has none.
    """
    result = copy.deepcopy(model)
    if not _Rewriting(result.graph).layers:
        return model
    if all(entry.domain != CONTRIB for entry in result.opset_import):
        result.opset_import.append(make_opsetid(CONTRIB, 1))
    for entry in result.opset_import:
        if entry.domain == "":
            entry.version = max(entry.version, OPSET)
    result.ir_version = max(result.ir_version, IR_VERSION)
    return result


class _Rewriting:
    """Replaces the products of one graph. layers: how many."""

    def __init__(self, graph: onnx.GraphProto) -> None:
        self.graph, self.layers = graph, 0
        self._constants = {entry.name: entry for entry in graph.initializer}
        self._levels: dict[str, tuple[str, str, str]] = {}
        """Input of a product → its levels, zeros and scales: the same for all products that read it."""
        self._new: list[NodeProto] = []
        self._rewrite()

    def _rewrite(self) -> None:
        for node in list(self.graph.node):
            weight = self._weight_of(node)
            if weight is None:
                self._new.append(node)
            else:
                self._replace(node, weight)
                self.layers += 1
        del self.graph.node[:]
        self.graph.node.extend(self._new)
        used = {name for node in self.graph.node for name in node.input} | {entry.name for entry in self.graph.output}
        kept = [entry for entry in self.graph.initializer if entry.name in used]
        del self.graph.initializer[:]
        self.graph.initializer.extend(kept)

    def _weight_of(self, node: NodeProto) -> np.ndarray | None:
        """The matrix (I, O) of a product that is to be replaced."""
        if node.op_type != "MatMul" or node.domain not in ("", "ai.onnx"):
            return None
        constant = self._constants.get(node.input[1])
        if constant is None or constant.data_type != TensorProto.FLOAT or len(constant.dims) != 2:
            return None
        return numpy_helper.to_array(constant) if min(constant.dims) >= LEAST else None

    def _replace(self, node: NodeProto, weight: np.ndarray) -> None:
        levels, zeros, scales = self._levels_of(node.input[0], width=len(weight))
        steps = np.maximum(np.abs(weight).max(0), _SMALLEST) / _WEIGHT_STEPS
        matrix = np.rint(weight / steps).astype(np.int8)
        more = rows_of_sum(-matrix.sum(0, dtype=np.int64))
        repeated = self._add("Expand", [zeros, self._constant(np.array([1, len(more)], np.int64))])
        product = self._add(
            "MatMulIntegerToFloat",
            [self._add("Concat", [levels, repeated], axis=-1), self._constant(np.concatenate([matrix, more])),
             self._constant(np.float32(1)), self._constant(steps.astype(np.float32))],
            domain=CONTRIB,
        )  # fmt: skip
        self._add("Mul", [product, scales], output=node.output[0])

    def _levels_of(self, source: str, *, width: int) -> tuple[str, str, str]:
        """u (..., I), z (..., 1) and s (..., 1) of ``source`` (..., I)."""
        if source not in self._levels:
            last, nothing = self._constant(np.array([-1], np.int64)), self._constant(np.float32(0))
            above = self._add("Max", [self._add("ReduceMax", [source, last], keepdims=1), nothing])
            below = self._add("Min", [self._add("ReduceMin", [source, last], keepdims=1), nothing])
            span = self._add("Max", [self._add("Sub", [above, below]), self._constant(np.float32(_SMALLEST))])
            scales = self._add("Mul", [span, self._constant(np.float32(1 / _INPUT_STEPS))])
            zeros = self._add("Round", [self._add("Neg", [self._add("Div", [below, scales])])])
            zeros = self._add("Cast", [zeros], to=TensorProto.UINT8)
            levels = self._add("QuantizeLinear", [source, scales, zeros], axis=-1, block_size=width)
            self._levels[source] = (levels, zeros, scales)
        return self._levels[source]

    def _add(self, kind: str, inputs: Iterable[str], *, output: str | None = None, **attributes: Any) -> str:
        name = output or f"int8.{len(self._new)}.{kind}"
        self._new.append(make_node(kind, list(inputs), [name], name=f"int8.node.{len(self._new)}", **attributes))
        return name

    def _constant(self, value: Any) -> str:
        array = np.ascontiguousarray(value) if np.ndim(value) else np.asarray(value)
        small = array.size == 1
        name = f"int8.{array.dtype}.{array.tolist()!r}" if small else f"int8.constant.{len(self._constants)}"
        if name not in self._constants:
            self._constants[name] = numpy_helper.from_array(array, name)
            self.graph.initializer.append(self._constants[name])
        return name


def rows_of_sum(sums: np.ndarray) -> np.ndarray:
    """Rows (R, O) of whole numbers in -64 … 64 whose sums over R are ``sums`` (O): as few as can be, one at least."""
    count = max(1, -(-int(np.abs(sums).max()) // _WEIGHT_STEPS))
    bounds = np.linspace(0, np.abs(sums), count + 1).astype(np.int64)  # whole numbers, at equal distances
    return (np.sign(sums) * np.diff(bounds, axis=0)).astype(np.int8)
