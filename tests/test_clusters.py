"""Rows of known operations are told apart, noise is set aside, and nothing depends on chance or order."""

import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import adjusted_rand_score, silhouette_score

from describe.clusters import ClusterSettings, cluster_rows, row_vectors
from describe.clusters.features import BLOCKS, Rows, spelling_features
from describe.clusters.partition import ALGORITHMS, _silhouette
from describe.encoders import SentenceEncoder
from describe.errors import InputError

DEFAULT = ClusterSettings()

CAPITALS = {
    " France": (" Paris", "Paris", " Lyon", " French", " London"),
    " Italy": (" Rome", "Rome", " Milan", " Italian", " Vienna"),
    " Spain": (" Madrid", " Barcelona", " Spanish", " Lisbon", " madrid"),
    " Germany": (" Berlin", "Berlin", " Munich", " German", " Vienna"),
    " Japan": (" Tokyo", "Tokyo", " Osaka", " Japanese", " Beijing"),
    " Russia": (" Moscow", "Moscow", " Russian", " Kiev", " Petersburg"),
    " Egypt": (" Cairo", " Egyptian", "Cairo", " Alexandria", " Baghdad"),
    " Greece": (" Athens", "Athens", " Greek", " Rome", " athens"),
    " China": (" Beijing", "Beijing", " Shanghai", " Chinese", " Tokyo"),
    " Austria": (" Vienna", "Vienna", " Austrian", " Salzburg", " Berlin"),
}
GERUNDS = {
    " walk": (" walking", "walking", " Walking", " walked", " running"),
    " sing": (" singing", "singing", " Singing", " sang", " dancing"),
    " jump": (" jumping", "jumping", " Jumping", " leaping", " jumped"),
    " eat": (" eating", "eating", " Eating", " ate", " drinking"),
    " read": (" reading", "reading", " Reading", " writing", " reads"),
    " sleep": (" sleeping", "sleeping", " Sleeping", " slept", " resting"),
    " teach": (" teaching", "teaching", " Teaching", " taught", " learning"),
    " swim": (" swimming", "swimming", " Swimming", " swam", " diving"),
    " cook": (" cooking", "cooking", " Cooking", " cooked", " baking"),
    " drive": (" driving", "driving", " Driving", " drove", " riding"),
}
NOISE = {
    " seven": (" ladder", " although", " purple", " Senate", " enzyme"),
    " candle": (" quickly", " tax", " Portugal", " wolf", " keyboard"),
    " because": (" tomato", " Tuesday", " helmet", " prayer", " import"),
    " violin": (" diesel", " elbow", " nineteen", " contract", " snow"),
    " gravel": (" princess", " noun", " coffee", " missile", " hence"),
    " Tuesday": (" lung", " carpet", " democracy", " spoon", " faster"),
}


@pytest.fixture(scope="module")
def minilm(minilm_folder):
    encoder = SentenceEncoder("minilm", minilm_folder)
    texts = sorted(
        {text for part in (CAPITALS, GERUNDS, NOISE) for s, ts in part.items() for text in (s, *ts)}
    )
    table = dict(zip(texts, encoder.encode([text.strip() for text in texts]), strict=True))
    return lambda wanted: np.stack([table[text] for text in wanted])


def head(*parts, seed=3):
    rows = [(source, targets, number) for number, part in parts for source, targets in part.items()]
    order = np.random.default_rng(seed).permutation(len(rows))
    truth = np.array([rows[i][2] for i in order])
    return [rows[i][0] for i in order], [rows[i][1] for i in order], truth


def clustered(minilm, sources, targets, settings=DEFAULT):
    return cluster_rows(row_vectors(sources, targets, minilm, settings), settings)


def test_two_operations_and_noise_are_told_apart(minilm):
    sources, targets, truth = head((0, CAPITALS), (1, GERUNDS), (-1, NOISE))
    labels, cohesion = clustered(minilm, sources, targets)
    assert adjusted_rand_score(truth, labels) > 0.9
    assert set(labels[truth == -1]) == {-1}
    assert set(cohesion) == {-1, 0, 1}
    assert min(cohesion[0], cohesion[1]) > cohesion[-1] + 0.1


@pytest.mark.parametrize("operation", [CAPITALS, GERUNDS])
def test_one_operation_stays_one_cluster(minilm, operation):
    labels, _ = clustered(minilm, *head((0, operation), (-1, NOISE))[:2])
    assert set(labels) == {-1, 0}
    assert (labels == 0).sum() == len(operation)


def test_a_head_of_noise_has_no_cluster(minilm):
    labels, cohesion = clustered(minilm, *head((-1, NOISE))[:2])
    assert set(labels) == {-1}
    assert set(cohesion) == {-1}


def test_shuffled_targets_lose_the_operations(minilm):
    """The same tokens dealt to rows by chance: what remains is that a head's targets come from few subjects."""
    sources, targets, _ = head((0, CAPITALS), (1, GERUNDS), (-1, NOISE))
    tokens = np.random.default_rng(0).permutation(sorted({t for row in targets for t in row}))
    shuffled = [tuple(str(t) for t in tokens[5 * i : 5 * i + 5]) for i in range(len(tokens) // 5)]
    labels, _ = clustered(minilm, sources[: len(shuffled)], shuffled)
    real, _ = clustered(minilm, sources, targets)
    assert labels.max() <= 0
    assert (labels == -1).mean() > (real == -1).mean() + 0.3


def test_the_order_of_the_rows_does_not_matter(minilm):
    sources, targets, _ = head((0, CAPITALS), (1, GERUNDS), (-1, NOISE))
    labels, _ = clustered(minilm, sources, targets)
    again, _ = clustered(minilm, sources[::-1], targets[::-1])
    assert adjusted_rand_score(labels, again[::-1]) == 1


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_every_algorithm_is_deterministic_and_finds_far_clouds(algorithm):
    rng = np.random.default_rng(0)
    directions = np.eye(12)[:2].repeat(15, axis=0) + 0.05 * rng.standard_normal((30, 12))
    split = {"average": 0.5, "hdbscan": 2.0}.get(algorithm, 0.1)
    chosen = replace(DEFAULT, algorithm=algorithm, split_threshold=split)
    labels, _ = cluster_rows(directions, chosen)
    again, _ = cluster_rows(directions, chosen)
    np.testing.assert_array_equal(labels, again)
    assert adjusted_rand_score([0] * 15 + [1] * 15, labels) > 0.9


@settings(max_examples=60, deadline=None)
@given(
    st.integers(0, 40),
    st.integers(1, 6),
    st.integers(0, 2**32 - 1),
    st.sampled_from(sorted(ALGORITHMS)),
)
def test_labels_are_noise_or_counted_from_the_largest(n, dim, seed, algorithm):
    rng = np.random.default_rng(seed)
    features = rng.standard_normal((n, dim)) * rng.random((n, 1)).round(1)  # some rows of length 0
    labels, cohesion = cluster_rows(features, replace(DEFAULT, algorithm=algorithm))
    sizes = [int((labels == label).sum()) for label in range(labels.max(initial=-1) + 1)]
    assert labels.shape == (n,)
    assert sizes == sorted(sizes, reverse=True)
    assert all(size >= DEFAULT.min_size for size in sizes)
    assert set(cohesion) == set(labels.tolist())
    assert all(-1.001 <= value <= 1.001 for value in cohesion.values())
    unfocused = np.linalg.norm(features, axis=1) < DEFAULT.focus_threshold
    assert (labels[unfocused] == -1).all()


def test_equal_clusters_are_numbered_by_their_first_row():
    features = np.eye(2)[[1, 0] * 8]
    labels, _ = cluster_rows(features, DEFAULT)
    np.testing.assert_array_equal(labels, [0, 1] * 8)


def test_cohesion_is_the_mean_pairwise_cosine():
    rng = np.random.default_rng(1)
    features = np.eye(4)[0] + 0.3 * rng.standard_normal((9, 4))
    labels, cohesion = cluster_rows(features, replace(DEFAULT, split_threshold=0.99, noise_threshold=-1))
    assert set(labels) == {0}
    unit = features / np.linalg.norm(features, axis=1, keepdims=True)
    expected = np.mean([unit[i] @ unit[j] for i in range(9) for j in range(9) if i != j])
    assert cohesion[0] == pytest.approx(expected)


def test_the_silhouette_is_that_of_scikit_learn():
    rng = np.random.default_rng(2)
    points, labels = rng.standard_normal((25, 3)), np.r_[rng.integers(0, 3, 24), 3]
    distances = np.linalg.norm(points[:, None] - points[None], axis=-1)
    assert _silhouette(distances, labels) == pytest.approx(silhouette_score(points, labels))


def words(texts):
    """A vector for each text from its own seed, all in one half of the space, as word vectors are."""
    return np.stack([1 + np.random.default_rng(list(text.encode())).standard_normal(16) for text in texts])


@pytest.mark.parametrize("block", BLOCKS)
def test_a_block_sees_rows_and_not_their_padding(block):
    sources, targets = [" a", " b", " cat"], [[" x", " y"], [" z"], [" cats", " dog", " x"]]
    chosen = replace(DEFAULT, representation=block)
    features = row_vectors(sources, targets, words, chosen)
    doubled = row_vectors(sources, [row * 2 for row in targets], words, chosen)
    np.testing.assert_allclose(np.linalg.norm(features, axis=1) <= 1, True)
    # repeating a row's targets changes how focused it is but not what it does
    np.testing.assert_allclose(_cosines(features), _cosines(doubled), atol=1e-6)


def _cosines(features):
    unit = features / np.maximum(np.linalg.norm(features, axis=1, keepdims=True), 1e-12)
    return unit @ unit.T


def test_focus_is_the_mean_cosine_of_a_rows_own_tokens():
    sources, targets = [" one", " two"], [[" p", " q", " r"], [" two", " two", " two"]]
    lengths = np.linalg.norm(row_vectors(sources, targets, words, DEFAULT), axis=1)
    unit = words([" one", " p", " q", " r"])
    unit /= np.linalg.norm(unit, axis=1, keepdims=True)
    expected = np.mean([unit[i] @ unit[j] for i in range(4) for j in range(4) if i != j])
    assert lengths[0] == pytest.approx(max(expected, 0))
    assert lengths[1] == pytest.approx(1)


def test_spelling_tells_endings_and_letters_apart():
    def change(source, target):
        return spelling_features(source, target)

    endings = ["s", "es", "ed", "ing", "er", "est", "ly", "ness", "ment"]
    changes = {tuple(change(" short", f" short{ending}")[13:]) for ending in endings}
    assert len(changes) == len(endings)
    np.testing.assert_array_equal(change(" walk", " walked")[13:], change(" jump", " jumped")[13:])
    assert change(" cat", " c")[6] == 1
    assert change(" cat", " t")[7] == 1
    assert change(" cat", "cat")[0] == 0
    assert change(" cat", "cat")[1] == 1


def test_vectors_are_asked_for_each_text_once():
    asked = []

    def vectors(texts):
        asked.extend(texts)
        return words(texts)

    row_vectors([" a", " b"], [[" c", " a"], [" c"]], vectors, DEFAULT)
    assert sorted(asked) == [" a", " b", " c"]


def test_no_rows_give_no_labels():
    labels, cohesion = cluster_rows(row_vectors([], [], words, DEFAULT), DEFAULT)
    assert labels.shape == (0,)
    assert cohesion == {}


@pytest.mark.parametrize(
    ("change", "words_of_error"),
    [
        ({"representation": "target + smell"}, "smell"),
        ({"representation": "0*target"}, "0\\*target"),
        ({"representation": ""}, "no part of a representation"),
        ({"algorithm": "guess"}, "ward"),
        ({"min_size": 1}, "min_size"),
    ],
)
def test_wrong_settings_are_refused(change, words_of_error):
    with pytest.raises(InputError, match=words_of_error):
        ClusterSettings(**change)


def test_wrong_rows_are_refused():
    with pytest.raises(InputError, match="one row each"):
        row_vectors([" a"], [], words, DEFAULT)
    with pytest.raises(InputError, match="no target"):
        row_vectors([" a"], [[]], words, DEFAULT)
    with pytest.raises(InputError, match="finite"):
        cluster_rows(np.array([[np.nan, 1.0]]), DEFAULT)
    with pytest.raises(InputError, match="matrix"):
        cluster_rows(np.zeros(3), DEFAULT)


def test_importing_the_room_loads_no_heavy_library():
    code = "import sys, describe.clusters as c; sys.exit(any(m in sys.modules for m in ('sklearn', 'scipy', 'torch')))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_rows_keep_their_shapes():
    rows = Rows.of([" a", " b"], [[" x"], [" y", " z"]], words)
    assert rows.target.shape == (2, 2, 16)
    assert rows.mask.tolist() == [[True, False], [True, True]]
    assert not rows.target[0, 1].any()
