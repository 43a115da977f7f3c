"""From feature vectors to clusters and a noise group; the number of clusters is found, not given.

Every algorithm proposes labels for unit rows; rows unlike the others of their cluster then leave it, and clusters
that are too small dissolve. All of it is deterministic.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from describe.clusters import ClusterSettings

Floats = NDArray[np.float64]
Labels = NDArray[np.int64]

_MAX_CLUSTERS = 6


def _ward_silhouette(features: Floats, settings: ClusterSettings) -> Labels:
    """Ward's tree, cut where the silhouette is highest; one cluster if that is not over the threshold."""
    from scipy.cluster.hierarchy import fcluster, linkage

    tree = linkage(features, method="ward")
    cuts = [fcluster(tree, k, criterion="maxclust") for k in range(2, _most(features, settings) + 1)]
    return _best_silhouette(features, [np.asarray(cut, dtype=np.int64) for cut in cuts], settings)


def _kmeans_silhouette(features: Floats, settings: ClusterSettings) -> Labels:
    """k-means with the k of the highest silhouette; one cluster if that is not over the threshold."""
    from sklearn.cluster import KMeans

    cuts = [
        KMeans(k, n_init=1, random_state=settings.seed).fit_predict(features).astype(np.int64)
        for k in range(2, _most(features, settings) + 1)
    ]
    return _best_silhouette(features, cuts, settings)


def _average(features: Floats, settings: ClusterSettings) -> Labels:
    """Average linkage on cosines, cut at 1 − threshold."""
    from scipy.cluster.hierarchy import fcluster, linkage

    distance = np.maximum(1 - _cosines(features), 0)
    tree = linkage(distance[np.triu_indices(len(features), 1)], method="average")
    return np.asarray(fcluster(tree, 1 - settings.split_threshold, criterion="distance"), dtype=np.int64)


def _hdbscan(features: Floats, settings: ClusterSettings) -> Labels:
    """HDBSCAN; its own noise stays noise. The threshold is its `min_samples`."""
    from sklearn.cluster import HDBSCAN

    size = max(2, min(settings.min_size, len(features)))
    model = HDBSCAN(
        min_cluster_size=size,
        min_samples=min(max(1, round(settings.split_threshold)), len(features) - 1),
        allow_single_cluster=True,
        copy=True,
    )
    return np.asarray(model.fit_predict(features), dtype=np.int64)


def _mixture(features: Floats, settings: ClusterSettings) -> Labels:
    """Dirichlet-process mixture of spherical Gaussians on six principal components; threshold = prior."""
    import warnings

    from sklearn.mixture import BayesianGaussianMixture

    model = BayesianGaussianMixture(
        n_components=_most(features, settings),
        covariance_type="spherical",
        weight_concentration_prior=settings.split_threshold,
        max_iter=30,
        random_state=settings.seed,
        init_params="k-means++",
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # 30 iterations may not converge; the study measures what comes out
        return np.asarray(model.fit_predict(_principal_scores(features, 6)), dtype=np.int64)


ALGORITHMS: dict[str, Callable[[Floats, ClusterSettings], Labels]] = {
    "ward": _ward_silhouette,
    "kmeans": _kmeans_silhouette,
    "average": _average,
    "hdbscan": _hdbscan,
    "mixture": _mixture,
}


def without_strangers(features: Floats, labels: Labels, threshold: float, min_size: int) -> Labels:
    """Rows whose mean cosine to the others of their cluster is under the threshold become noise (−1).

    So do clusters of fewer than `min_size` rows. Rows are judged twice, because strangers among the members
    also lower the mean cosine of those who belong.
    """
    cosines = _cosines(features)
    labels = labels.copy()
    for _ in range(2):
        for label in np.unique(labels[labels >= 0]):
            members = np.flatnonzero(labels == label)
            if len(members) < min_size:
                labels[members] = -1
                continue
            inner = cosines[np.ix_(members, members)]
            mean = (inner.sum(1) - np.diag(inner)) / max(len(members) - 1, 1)
            labels[members[mean < threshold]] = -1
    for label in np.unique(labels[labels >= 0]):
        if (labels == label).sum() < min_size:
            labels[labels == label] = -1
    return labels


def by_size(labels: Labels) -> Labels:
    """Renumber from 0 by falling size, ties by first member; −1 stays."""
    found = [label for label in np.unique(labels) if label >= 0]
    found.sort(key=lambda label: (-int((labels == label).sum()), int(np.argmax(labels == label))))
    numbers = {int(label): number for number, label in enumerate(found)}
    return np.array([numbers.get(int(label), -1) for label in labels], dtype=np.int64)


def cohesion(features: Floats, labels: Labels) -> dict[int, float]:
    """Mean pairwise cosine within each label that occurs, noise included; 1.0 for a single row."""
    cosines = _cosines(features)
    values = {}
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label)
        inner = cosines[np.ix_(members, members)]
        pairs = len(members) * (len(members) - 1)
        values[int(label)] = float((inner.sum() - np.trace(inner)) / pairs) if pairs else 1.0
    return values


def _most(features: Floats, settings: ClusterSettings) -> int:
    return max(1, min(_MAX_CLUSTERS, len(features) // settings.min_size))


def _best_silhouette(features: Floats, cuts: list[Labels], settings: ClusterSettings) -> Labels:
    """The clearest cut without small groups: those would dissolve, and a fair operation lose rows to noise."""
    best, chosen = settings.split_threshold, np.zeros(len(features), dtype=np.int64)
    distances = np.sqrt(np.maximum(_squared_distances(features), 0))
    for cut in cuts:
        if np.unique(cut, return_counts=True)[1].min() < settings.min_size:
            continue
        value = _silhouette(distances, cut)
        if value > best:
            best, chosen = value, cut
    return chosen


def _silhouette(distances: Floats, labels: Labels) -> float:
    """Mean silhouette (Rousseeuw 1987); scikit-learn's spends a millisecond on input checks."""
    found, inverse = np.unique(labels, return_inverse=True)
    if len(found) < 2:
        return -1.0
    member = np.eye(len(found))[inverse]  # [K, clusters]
    sizes, sums = member.sum(0), distances @ member
    own = (sums * member).sum(1) / np.maximum(sizes[inverse] - 1, 1)
    other = np.where(member > 0, np.inf, sums / sizes).min(1)
    values = (other - own) / np.maximum(np.maximum(own, other), 1e-12)
    return float(np.where(sizes[inverse] > 1, values, 0).mean())


def _principal_scores(features: Floats, n: int) -> Floats:
    """The rows along the first n principal components, [K, ≤ n], by way of the K × K Gram matrix."""
    centred = features - features.mean(0)
    values, basis = np.linalg.eigh(centred @ centred.T)
    scores: Floats = (basis * np.sqrt(values.clip(0)))[:, ::-1][:, :n]
    return scores


def _squared_distances(features: Floats) -> Floats:
    squares = np.square(features).sum(1)
    distances: Floats = squares[:, None] + squares[None] - 2 * features @ features.T
    return distances


def _cosines(features: Floats) -> Floats:
    unit = _unit(features)
    return unit @ unit.T


def _unit(rows: Floats) -> Floats:
    unit: Floats = rows / np.maximum(np.linalg.norm(rows, axis=-1, keepdims=True), 1e-12)
    return unit
