"""From claims to what is said of a head: one false-discovery rate for the model, abstention, texts."""

from __future__ import annotations

import numpy as np
import pytest

from describe.core.nulls import benjamini_hochberg
from describe.drafting.rules.evidence import Claim, GradingSettings
from describe.drafting.rules.verdict import HeadRows, accept, head_verdicts, sentence_of
from describe.records import HeadId

GRADING = GradingSettings()
HEAD = HeadId(3, 1)
HELDOUT = np.arange(10) % 2 == 1


def claim(p=1e-4, kind="row", name="plural", hits=4, n=5, null=0.05, rows=(0, 1, 3, 5, 7)):
    return Claim(kind, name, 4, 5, hits, n, null, p, tuple(rows))


def clause(one, direction):
    verb = "writes" if direction == "promote" else "suppresses"
    return one.name if one.kind == "input" else f"{verb} the {one.name}"


def verdicts(promote=(), suppress=(), clusters=None):
    rows = {
        "promote": HeadRows(HELDOUT, clusters or {}),
        "suppress": HeadRows(HELDOUT, {}),
    }
    accepted = {"promote": [(c, 0.01) for c in promote], "suppress": [(c, 0.02) for c in suppress]}
    return head_verdicts(HEAD, rows, accepted, clause)


def test_one_false_discovery_rate_over_all_heads_and_one_for_inputs():
    p = [0.0001, 0.001, 0.012, 0.03, 0.2, 0.9]
    claims = {(HeadId(0, i), "promote"): [claim(value)] for i, value in enumerate(p)}
    for i in range(100):  # inputs are a family of their own and cost the others nothing
        claims[HeadId(1, i), "promote"] = [claim(0.9, kind="input")]
    claims[HeadId(2, 0), "suppress"] = [claim(0.0004, kind="input")]
    accepted, cut = accept(claims, GRADING)
    q = benjamini_hochberg(p)
    for i, value in enumerate(p):
        own = accepted[HeadId(0, i), "promote"]
        assert own == ([(claim(value), q[i])] if q[i] <= 0.05 else [])
    assert [bool(accepted[HeadId(0, i), "promote"]) for i in range(6)] == [
        True,
        True,
        True,
        True,
        False,
        False,
    ]
    assert cut == 0.03
    assert accepted[HeadId(2, 0), "suppress"][0][1] == pytest.approx(0.0004 * 101)
    assert set(accepted) == set(claims)


def test_both_directions_and_both_kinds_share_the_family():
    claims = {
        (HEAD, "promote"): [claim(0.02), claim(0.04, kind="output")],
        (HEAD, "suppress"): [claim(0.03)],
    }
    accepted, cut = accept(claims, GRADING)
    assert [q for _, q in accepted[HEAD, "promote"]] == pytest.approx([0.04, 0.04])
    assert cut == 0.04
    claims[HeadId(0, 0), "promote"] = [claim(0.9) for _ in range(3)]
    accepted, cut = accept(claims, GRADING)
    assert not any(accepted.values())
    assert cut == 0.0


def test_a_significant_but_small_effect_is_not_accepted():
    weak = claim(1e-4, hits=3, n=20, null=0.05)
    accepted, cut = accept({(HEAD, "promote"): [weak]}, GRADING)
    assert accepted[HEAD, "promote"] == []
    assert cut == 1e-4  # it is a discovery all the same, and the nulls are counted at that cut


def test_nothing_to_accept():
    assert accept({}, GRADING) == ({}, 0.0)
    assert accept({(HEAD, "promote"): []}, GRADING) == ({(HEAD, "promote"): []}, 0.0)


def test_inputs_alone_leave_a_head_unclear():
    (whole,) = verdicts(promote=[claim(kind="input", name="names of countries")])
    assert (whole.status, whole.pattern, whole.lead, whole.q_value) == ("unclear", None, None, None)
    assert whole.inputs == "names of countries (4 of 5 held-out rows, 5% by chance)"
    assert whole.explained is None
    assert whole.claims == ()


def test_a_head_without_claims_is_unclear():
    (whole,) = verdicts()
    assert (whole.status, whole.inputs, whole.pattern) == ("unclear", None, None)


def test_the_text_names_every_pattern_with_its_evidence_strongest_first():
    (whole,) = verdicts(
        promote=[claim(name="plural", hits=3, rows=(0, 1, 3, 5)), claim(name="past tense", hits=4)],
        suppress=[claim(name="word itself", hits=5, null=0.004)],
    )
    assert whole.status == "described"
    assert whole.pattern == (
        "Writes the past tense (4 of 5 held-out rows, 5% by chance); "
        "writes the plural (3 of 5 held-out rows, 5% by chance); "
        "suppresses the word itself (5 of 5 held-out rows, 0% by chance). "
        "Explains 80% of its held-out rows."
    )
    assert whole.lead.name == "past tense"  # what it promotes leads, though more rows are suppressed
    assert (whole.direction, whole.q_value) == ("promote", 0.01)
    assert [(direction, c.name) for direction, c, _ in whole.claims] == [
        ("promote", "past tense"),
        ("promote", "plural"),
        ("suppress", "word itself"),
    ]


def test_a_head_that_only_suppresses_is_described_as_such():
    (whole,) = verdicts(suppress=[claim()], promote=[claim(kind="input", name="nouns")])
    assert (whole.status, whole.direction, whole.q_value) == ("described", "suppress", 0.02)
    assert whole.inputs.startswith("nouns")


def test_explained_counts_heldout_rows_once():
    both = [claim(rows=(0, 1, 3)), claim(name="past", rows=(2, 3, 5, 8))]
    assert verdicts(promote=both)[0].explained == pytest.approx(3 / 5)  # rows 1, 3 and 5 of 1, 3, 5, 7, 9
    output = claim(kind="output", name="nouns", rows=range(10))
    assert verdicts(promote=[output])[0].explained == 1.0


def test_inputs_of_what_is_promoted_go_before_those_of_what_is_suppressed():
    promoted, suppressed = (claim(kind="input", name=name) for name in ("nouns", "verbs"))
    assert verdicts([promoted], [suppressed])[0].inputs.startswith("nouns")
    assert verdicts([], [suppressed])[0].inputs.startswith("verbs")


def test_a_cluster_gets_the_claim_that_holds_on_most_of_its_rows():
    plural, past = claim(name="plural", rows=(0, 1, 2, 3)), claim(name="past", rows=(4, 5, 6))
    clusters = {1: (4, 5, 6, 7), 0: (0, 1, 2), 2: (7, 8, 9), -1: (3,)}
    whole, *parts = verdicts(promote=[plural, past], clusters=clusters)
    assert whole.cluster is None
    assert [(part.cluster, part.status) for part in parts] == [
        (0, "described"),
        (1, "described"),
        (2, "unclear"),
    ]  # the noise group has no verdict
    assert parts[0].pattern == sentence_of(plural, "writes the plural")
    assert parts[0].explained == 1.0
    assert parts[1].lead.name == "past"
    assert parts[1].explained == pytest.approx(3 / 4)
    assert (parts[2].pattern, parts[2].lead, parts[2].explained, parts[2].claims) == (None, None, 0.0, ())


def test_a_claim_on_fewer_than_half_of_a_clusters_rows_does_not_describe_it():
    _, half, less = verdicts(promote=[claim(rows=(0, 1, 4))], clusters={0: (0, 1, 2, 3), 1: (4, 5, 6)})
    assert (half.status, less.status) == ("described", "unclear")
    assert less.explained == pytest.approx(1 / 3)
