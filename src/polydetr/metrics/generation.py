"""How close generated samples come to real ones: the Fréchet distance, beside that of real samples among themselves.

The distance depends on the features it is taken in and on how many samples there are (few samples look far apart), so
that it means something only beside the distance of one half of the real samples to the other, in the same features
and of about the same number.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from polydetr.errors import InputError


@dataclass(frozen=True, slots=True)
class GenerationReport:
    """frechet: generated against held-out real samples; real_frechet: other real samples against the same held-out
    ones; ratio: the one over the other, 1 = as close as real samples come. nearest: the mean distance of a generated
    sample to the nearest other real one; real_nearest: the same of a held-out sample. Where ``nearest`` is far below
    ``real_nearest``, the generated samples are copies.
    """

    frechet: float
    real_frechet: float
    ratio: float
    nearest: float
    real_nearest: float

    def to_dict(self) -> dict[str, float]:
        return asdict(self)


def frechet_distance(first: ArrayLike, second: ArrayLike) -> float:
    """|μ_1 - μ_2|² + tr(Σ_1 + Σ_2 - 2 (Σ_1 Σ_2)^½), of the normal distributions fitted to two samples of features.

    first, second: (N, D) and (M, D), N and M at least 2.
    Source: Dowson & Landau 1982; Heusel et al. 2017 (arXiv 1706.08500), eq. 6.

    Raises:
        InputError: shapes do not fit, or a value is not finite.
    """
    a, b = _features(first, "first"), _features(second, "second")
    if a.shape[1] != b.shape[1]:
        raise InputError(f"features of {a.shape[1]} and of {b.shape[1]} numbers cannot be compared.")
    mean_gap = a.mean(0) - b.mean(0)
    cov_a, cov_b = (np.atleast_2d(np.cov(x, rowvar=False)) for x in (a, b))
    # tr((Σ_1 Σ_2)^½) is the sum of the roots of the eigenvalues of the symmetric Σ_1^½ Σ_2 Σ_1^½, which stay real
    # where features never vary.
    values, vectors = np.linalg.eigh(cov_a)
    root = vectors * np.sqrt(values.clip(min=0.0)) @ vectors.T
    cross = np.sqrt(np.linalg.eigvalsh(root @ cov_b @ root).clip(min=0.0)).sum()
    return max(0.0, float(mean_gap @ mean_gap + np.trace(cov_a) + np.trace(cov_b) - 2.0 * cross))


def generation_report(generated: ArrayLike, held_out: ArrayLike, reference: ArrayLike) -> GenerationReport:
    """generated (N, D) features against those of real samples that training did not see, ``held_out`` (M, D), and the
    same for ``reference`` (K, D): other real samples, such as those of the training.

    Raises:
        InputError: what :func:`frechet_distance` raises, or the real samples are all the same.
    """
    samples = _features(generated, "generated")
    unseen, real = _features(held_out, "held_out"), _features(reference, "reference")
    among_real = frechet_distance(real, unseen)
    if among_real == 0.0:
        raise InputError("held_out and reference hold the same samples: there is nothing to compare with.")
    distance = frechet_distance(samples, unseen)
    nearest, real_nearest = _to_nearest(samples, real), _to_nearest(unseen, real)
    return GenerationReport(distance, among_real, distance / among_real, nearest, real_nearest)


def _to_nearest(samples: NDArray[np.float64], real: NDArray[np.float64]) -> float:
    """The mean distance of a sample to the nearest real one. All pairs: in so many dimensions a tree saves nothing,
    and SciPy's overflows the stack where denormal numbers count as zero, as they do in a training run.
    """
    from scipy.spatial.distance import cdist

    parts = [cdist(samples[start : start + 512], real).min(axis=1) for start in range(0, len(samples), 512)]
    return float(np.concatenate(parts).mean())


def _features(values: ArrayLike, name: str) -> NDArray[np.float64]:
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != 2 or len(array) < 2 or not array.shape[1]:
        raise InputError(f"{name} has shape {array.shape}, expected (N, D) with at least two samples.")
    if not np.isfinite(array).all():
        raise InputError(f"{name} holds a number that is not finite.")
    return array
