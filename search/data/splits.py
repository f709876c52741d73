"""Splits of images: stratified, and the same for the same seed; and the steps that images make."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from search.errors import DataError


def split(labels_N: np.ndarray, fraction: float, seed: int, keep: int = 1) -> tuple[np.ndarray, np.ndarray]:
    """Indices that stay and indices set aside: of each class the rounded fraction, 1 to n - `keep` images."""
    count_K = np.bincount(labels_N)
    aside = _draw(labels_N, np.clip(np.rint(fraction * count_K).astype(int), 1, count_K - keep), seed)
    return np.setdiff1d(np.arange(len(labels_N)), aside), aside


def limited(labels_N: np.ndarray, limit: int, seed: int, class_names: Sequence[str]) -> np.ndarray:
    """Indices of exactly `limit` images; each class keeps its share to within one image. Raises DataError
    when that leaves a class fewer than two.
    """
    count_K = np.bincount(labels_N)
    take_K, remainder_K = np.divmod(limit * count_K, len(labels_N))
    take_K[np.argsort(-remainder_K, kind="stable")[: limit - take_K.sum()]] += 1
    if take_K.min() < 2:
        worst = int(take_K.argmin())
        enough = math.ceil(2 * len(labels_N) / count_K.min())
        raise DataError(
            f"data.limit = {limit} must leave 2 images of each class, "
            f"found {take_K[worst]} of {class_names[worst]!r}; a limit of {enough} or more does"
        )
    return _draw(labels_N, take_K, seed)


def steps_per_epoch(images: int, batch_size: int) -> int:
    """Steps of an epoch: whole batches only, but fewer images than one batch are one step."""
    return max(1, images // batch_size)


def _draw(labels_N: np.ndarray, take_K: np.ndarray, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    drawn = [rng.permutation(np.flatnonzero(labels_N == label))[:take] for label, take in enumerate(take_K)]
    return np.sort(np.concatenate(drawn))
