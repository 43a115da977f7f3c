"""The study's heads are what they claim, its index cannot be gamed, and figures come from held-out relations."""

import json
from dataclasses import asdict

import numpy as np
import pytest

from describe.clusters import ClusterSettings
from describe.errors import InputError
from describe.relations import load_relations
from eval.bench import clustering
from eval.bench.interleaved import N_TARGETS, NOISE_SHARES, HeadMaker, anchored_ari, halves, score

BOTH = ("source", "surface")


def hashed(texts):
    """Vectors that know no meaning: each word its own direction."""
    return np.stack(
        [np.random.default_rng(list(text.strip().encode())).standard_normal(24) for text in texts]
    )


@pytest.fixture(scope="module")
def relations():
    return load_relations()


@pytest.fixture(scope="module")
def maker(relations):
    return HeadMaker(relations, hashed, seed=4)


@pytest.mark.parametrize("share", NOISE_SHARES)
@pytest.mark.parametrize(("n_operations", "shared"), [(1, False), (2, False), (2, True), (3, True)])
def test_a_head_holds_what_it_claims(maker, relations, n_operations, shared, share):
    head = maker.head(n_operations, shared, share, 60)
    pairs = {relation.name: dict(relation.pairs) for relation in relations}
    assert (head.operations == -1).sum() == 60 - round(60 * (1 - share))
    assert set(head.operations[head.operations >= 0]) == set(range(n_operations))
    right = []
    for source, targets, operation in zip(head.source_texts, head.target_texts, head.operations, strict=True):
        assert len(targets) == N_TARGETS
        if operation >= 0:
            mine = pairs[head.relations[operation]]
            right.append(f" {mine[source.strip()]}" in targets)
            if shared:
                assert all(source.strip() in pairs[name] for name in head.relations)
    assert np.mean(right) > 0.7
    real = [s for s, operation in zip(head.source_texts, head.operations, strict=True) if operation >= 0]
    assert len(set(real)) == len(real)


def test_heads_are_interleaved_and_follow_from_the_seed(relations):
    first, again, other = (HeadMaker(relations, hashed, seed).head(2, False, 0.25, 60) for seed in (4, 4, 5))
    assert first.source_texts == again.source_texts
    assert first.target_texts == again.target_texts
    assert first.source_texts != other.source_texts
    changes = (np.diff(first.operations) != 0).sum()
    assert changes > 15


def test_the_halves_share_no_relation(relations):
    choose, report = halves(relations, seed=0)
    assert {r.name for r in choose}.isdisjoint(r.name for r in report)
    assert len(choose) + len(report) == len(relations)
    assert halves(relations[::-1], seed=0) == (choose, report)
    assert halves(relations, seed=1) != (choose, report)


def test_the_index_tells_noise_from_a_cluster():
    one, noise = np.zeros(30, dtype=np.int64), np.full(30, -1)
    two = np.repeat([0, 1], 15)
    assert anchored_ari(one, one) == 1
    assert anchored_ari(noise, noise) == 1
    assert anchored_ari(two, 1 - two) == 1
    assert anchored_ari(one, noise) == 0
    assert anchored_ari(noise, one) == 0
    assert anchored_ari(two, one) < 0.5


def test_scores_are_counted_by_hand(maker):
    heads = [maker.head(1, False, 0.5, 30), maker.head(0, False, 1.0, 30)]
    perfect = score(heads, [head.operations for head in heads])
    assert perfect.ari == perfect.stays_one == perfect.noise_recognised == 1
    assert perfect.rows_lost == 0
    assert perfect.clusters_found[:2] == (0, 1)
    merged = score(heads, [np.zeros(30, dtype=np.int64)] * 2)
    assert merged.noise_recognised == 0
    assert merged.clusters_found[:2] == (1, 1)
    assert merged.ari < 0.4


def test_tuning_takes_the_thresholds_that_score_highest(maker, monkeypatch):
    monkeypatch.setattr(clustering, "_STRANGERS", (-1.0, 2.0))  # 2.0 throws every row out
    heads = [maker.head(1, False, 0.25, 30) for _ in range(4)]
    # rows of an operation point one way, noise is short: any sensible threshold solves it
    rows = [np.where(head.operations[:, None] >= 0, [1.0, 0.0], [0.0, 0.1]) for head in heads]
    best = clustering.tuned(ClusterSettings(algorithm="ward"), heads, rows)
    assert best.noise_threshold == -1.0
    labels = [clustering.cluster_rows(row, best)[0] for row in rows]
    assert score(heads, labels).ari == 1


def test_the_study_prefers_what_carries_the_operations(relations, monkeypatch):
    """Where all words are equally alike, only spelling can tell operations apart."""
    monkeypatch.setattr(clustering, "_SPLITS", {"ward": (0.04,), "average": (0.6,)})
    sources = [clustering.VectorSource("alike", lambda texts: 1 + hashed(texts), BOTH)]
    chosen = [r for r in relations if r.category in ("linguistic", "algorithmic", "translation")]
    candidates = list(clustering.study(chosen, sources, hashed, repeats=1, seed=0))
    *measured, ablated = candidates
    best = {name: max(c.reported.ari for c in measured if c.settings.representation == name) for name in BOTH}
    assert best["surface"] > best["source"] + 0.05
    assert ablated.settings.focus_threshold == 0
    assert not ablated.competes
    assert (
        ablated.settings.representation == max(measured, key=lambda c: c.chosen.ari).settings.representation
    )
    table = clustering.markdown(candidates).splitlines()
    assert len(table) == 2 + 2 + 1 + 1  # every algorithm of the winner, the other's best, the ablation
    json.dumps([asdict(candidate) for candidate in candidates])


def test_too_few_relations_are_refused(relations):
    with pytest.raises(InputError, match="three relations"):
        HeadMaker(relations[:2], hashed, seed=0)
