"""Claims that run: an operation tells its own rows from foils just as `Operation.holds` says."""

import numpy as np
import pytest

from describe.drafting.rows import Row
from describe.drafting.rules.operations import operations, token_classes
from describe.records import HeadId
from eval.judging.claims import Claim
from eval.judging.executing import grade_by_execution
from eval.judging.foils import Item, Trial

WORDS = [
    "cat",
    "Paris",
    "seven",
    "running",
    "blue",
    "Peter",
    "dog",
    "Rome",
    "eight",
    "walking",
    "red",
    "Anna",
]


def letters(texts):
    """Vectors by first letter: enough for what asks for vectors at all."""
    table = np.eye(27, dtype=np.float32)
    return table[[ord(text.strip()[:1].lower() or "a") % 27 for text in texts]]


def row(source, targets, direction="promote"):
    return Row(direction, f" {source}", tuple(f" {target}" for target in targets))


def claim(name, kind="row", direction="promote", key="d1", head="L0H0"):
    return Claim(
        key,
        HeadId.parse(head),
        None,
        direction,
        (direction,),
        name,
        kind == "row",
        "rules",
        ("test",),
        ((direction, kind, name),),
    )


def trial(own, foils, head="L0H0"):
    of = HeadId.parse(head)
    items = [Item(one, "own", of) for one in own] + [Item(one, "similar", HeadId(9, 9)) for one in foils]
    return Trial(of, tuple(items), 0)


@pytest.fixture(scope="module")
def copying():
    """The operation of the library that holds for a token and itself, by asking the library."""
    return next(
        one.name
        for one in operations()
        if one.holds(" Peter", " Peter") and not one.holds(" Peter", " peter")
    )


def test_a_claim_that_holds_tells_every_row_from_foils(copying):
    own = [row(word, ["x", word, "y"]) for word in WORDS[:6]]
    foils = [row(word, ["x", "z", "y"]) for word in WORDS[6:]]
    found = grade_by_execution({"d1": (claim(copying), trial(own, foils))}, letters, 0)["d1"]
    assert found.detection.auc == 1 and found.detection.balanced_accuracy == 1 and found.detection.hits == 12
    assert found.null_auc is None  # there is no other claim


def test_every_operation_marks_what_it_holds_for():
    rows = [row(a, [b, c]) for a, b, c in zip(WORDS, WORDS[1:], WORDS[2:], strict=False)]
    tested = trial(rows[:5], rows[5:])
    for one in operations()[::7]:
        found = grade_by_execution({"d": (claim(one.name), tested)}, letters, 0)["d"]
        expected = [
            float(any(one.holds(item.row.source, target) for target in item.row.targets))
            for item in tested.items
        ]
        assert list(found.detection.likelihoods) == expected, one.name


def test_a_class_of_targets_needs_three_fifths_of_them():
    one = next(one for one in token_classes() if one.contains(" seven") and not one.contains(" cat"))
    outside = [f" {word}" for word in WORDS if not one.contains(f" {word}")][:5]
    inside = next(text for text in (" seven", " eight") if one.contains(text))
    enough = Row("promote", " x", (inside,) * 3 + tuple(outside[:2]))
    few = Row("promote", " x", (inside,) * 2 + tuple(outside[:3]))
    found = grade_by_execution({"d": (claim(one.name, "output"), trial([enough], [few]))}, letters, 0)["d"]
    assert list(found.detection.likelihoods) == [1.0, 0.0]


def test_a_claim_about_one_direction_says_nothing_of_the_other(copying):
    own = [row("cat", ["cat"], "suppress"), row("dog", ["dog"])]
    found = grade_by_execution({"d": (claim(copying), trial(own, [row("red", ["x"])]))}, letters, 0)["d"]
    assert list(found.detection.likelihoods) == [0.0, 1.0, 0.0]


def test_the_null_is_the_mean_area_of_other_claims_on_the_same_rows(copying):
    other = next(
        one.name for one in operations() if not any(one.holds(f" {a}", f" {b}") for a in WORDS for b in WORDS)
    )
    own = [row(word, [word]) for word in WORDS[:6]]
    foils = [row(word, ["zz"]) for word in WORDS[6:]]
    trials = {
        "d1": (claim(copying), trial(own, foils)),
        "d2": (claim(other, key="d2", head="L1H1"), trial(own, foils, "L1H1")),
        "d3": (claim(copying, key="d3", head="L2H2"), trial(own, foils, "L2H2")),
    }
    found = grade_by_execution(trials, letters, 0)
    assert found["d1"].null_auc == 0.5 and found["d1"].null_n == 1  # d3 claims the same and is no null
    assert found["d2"].detection.auc == 0.5 and found["d2"].null_auc == 1.0


def test_free_text_cannot_be_run():
    text = Claim("d", HeadId(0, 0), None, "promote", ("promote",), "Writes things", True, "m", ("test",))
    assert grade_by_execution({"d": (text, trial([row("a", ["b"])], [row("c", ["d"])]))}, letters, 0) == {}
