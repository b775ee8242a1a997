"""Flow matching: an image as the end of a path that begins in noise, and a model of the direction at every point of it.

    x_t = (1 - t) · noise + t · data          the straight path                (rectified flow, arXiv 2209.03003, eq. 1)
    v   = dx_t / dt = data - noise            what the model learns            (flow matching, arXiv 2210.02747, eq. 14)
    L   = E_{t, noise, data} |v_θ(x_t, t) - v|²

New data come from solving dx / dt = v_θ(x, t) from noise at t = 0 to t = 1. All of it is arithmetic that NumPy's arrays
and PyTorch's tensors share, so that whoever computes v_θ follows the same path.

Shapes: B examples; "..." as the data have it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from polydetr.errors import ConfigError

A = TypeVar("A", bound=Any)
"""An array of NumPy's, or a tensor."""


def interpolate(noise: A, data: A, time: A) -> A:
    """x_t = (1 - t) · noise + t · data, (B, ...), (B, ...), (B,) → (B, ...): a time of its own for each example."""
    return noise + time.reshape(-1, *[1] * (data.ndim - 1)) * (data - noise)


def velocity(noise: A, data: A) -> A:
    """v = data - noise, the same at every time of the straight path."""
    return data - noise


def guided(conditional: A, unconditional: A, scale: float) -> A:
    """v = v(x) + s · (v(x | c) - v(x)); s = 1 is the conditional model's own output, more of it stresses the condition.

    Source: classifier-free guidance, Ho & Salimans 2022 (arXiv 2207.12598), eq. 6 with s = 1 + w.
    """
    return unconditional + scale * (conditional - unconditional)


def solve(field: Callable[[A, float], A], noise: A, *, steps: int) -> A:
    """Follows dx / dt = field(x, t) from ``noise`` (B, ...) at t = 0 to t = 1 in equal steps.

    field: (x (B, ...), t) → (B, ...). Heun's method: the field is evaluated twice per step, and the mean of the slopes
    at both ends of the step is taken, so that the error falls with steps⁻².

    Raises:
        ConfigError: no step.
    """
    if steps < 1:
        raise ConfigError(f"steps={steps} must be at least 1.")
    x = noise
    for i in range(steps):
        slope = field(x, i / steps)
        x = x + (slope + field(x + slope / steps, (i + 1) / steps)) / 2 / steps
    return x
