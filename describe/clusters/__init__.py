"""A head's mapping rows, grouped into operations and a noise group.

A polysemantic head does several things; describing its rows together would blur them. Rows become vectors
(`features`), vectors become clusters (`partition`). The defaults won the study in `eval.bench.clustering`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from describe.clusters.features import Rows, block_features, parse_representation
from describe.clusters.partition import ALGORITHMS, by_size, cohesion, without_strangers
from describe.errors import InputError

__all__ = ["ClusterSettings", "cluster_rows", "row_vectors"]


@dataclass(frozen=True)
class ClusterSettings:
    """How rows are grouped; the defaults are the study's winner.

    Raises:
        InputError: at construction, for an unknown representation or algorithm, or sizes that cannot be.
    """

    representation: str = "target + shift + 0.5*surface"  # weighted blocks, see `describe.clusters.features`
    algorithm: str = "ward"  # one of `describe.clusters.partition.ALGORITHMS`
    min_size: int = 5  # rows of the smallest cluster
    seed: int = 0  # for kmeans and mixture; the others draw nothing
    split_threshold: float = 0.07  # how clear a division must be; its meaning depends on the algorithm
    focus_threshold: float = 0.28  # least mean cosine among a row's own tokens, as MiniLM has it
    noise_threshold: float = 0.15  # least mean cosine of a row to its cluster

    def __post_init__(self) -> None:
        parse_representation(self.representation)
        if self.algorithm not in ALGORITHMS:
            raise InputError(
                f"Unknown clustering algorithm '{self.algorithm}': choose one of {', '.join(ALGORITHMS)}."
            )
        if self.min_size < 2:
            raise InputError(
                f"A cluster cannot have as few as {self.min_size} rows: set min_size to 2 or more."
            )


def row_vectors(
    source_texts: Sequence[str],
    target_texts: Sequence[Sequence[str]],
    vectors: Callable[[Sequence[str]], np.ndarray],
    settings: ClusterSettings,
) -> np.ndarray:
    """The features of a head's rows.

    Args:
        source_texts: K source tokens.
        target_texts: for each its target tokens, best first; at least one.
        vectors: token texts to rows [len, d], such as a sentence encoder behind a cache.
        settings: names the representation.

    Returns:
        [K, dim], float64: a row's direction says what it does, its length how focused it is, between 0 and 1.

    Raises:
        InputError: unequal numbers of sources and rows, or a row without targets.
    """
    if not source_texts and not target_texts:
        return np.zeros((0, 0))
    return block_features(Rows.of(source_texts, target_texts, vectors), settings.representation)


def cluster_rows(features: np.ndarray, settings: ClusterSettings) -> tuple[np.ndarray, dict[int, float]]:
    """Group rows into clusters, as many as there seem to be.

    Args:
        features: [K, dim] from `row_vectors`.
        settings: the algorithm and its thresholds.

    Returns:
        Labels [K], int64: −1 for noise, then 0, 1, … by falling size (ties by first member); and for each
        label that occurs the mean pairwise cosine of its rows.

    Raises:
        InputError: the features are not a finite matrix.
    """
    features = np.asarray(features, dtype=np.float64)
    if features.ndim != 2 or not np.isfinite(features).all():
        raise InputError("Rows to cluster must be a matrix of finite numbers: check the tokens' vectors.")
    labels = np.full(len(features), -1, dtype=np.int64)
    lengths = np.linalg.norm(features, axis=1)
    focused = np.flatnonzero((lengths >= settings.focus_threshold) & (lengths > 0))
    if len(focused) >= settings.min_size:
        directions = features[focused] / lengths[focused, None]
        proposed = ALGORITHMS[settings.algorithm](directions, settings)
        labels[focused] = by_size(
            without_strangers(directions, proposed, settings.noise_threshold, settings.min_size)
        )
    return labels, cohesion(features, labels)
