"""The sentence encoder as grader: it knows a topic from others, and its null is a guess."""

from __future__ import annotations

import numpy as np
import pytest

import data
from describe.encoders import MiniLM
from describe.records import HeadId
from eval.judging.encoding import best_by_cosine, grade_by_cosine, row_sentence
from eval.judging.foils import Trials, TrialSettings
from eval.judging.roc import auc

TOPICS = ["animals", "countries", "foods", "diseases", "clothes", "professions", "mathematics_terms"]


@pytest.fixture(scope="module")
def encoder(minilm_folder):
    return MiniLM()


@pytest.fixture(scope="module")
def graded_topics(book_maker):
    """By topic a description and a trial: one head a topic, whose sources and targets are its words."""
    maker = book_maker()
    for at, name in enumerate(TOPICS):
        words = [f" {word}" for word in data.word_classes()[name].members[:60]]

        def targets(place, source, words=words):
            return [words[(place * 7 + j * 11) % len(words)] for j in range(1, 6)]

        def text(source, words=words):
            return words[source % 1000]

        maker.head(HeadId(0, at), range(1000 * at, 1000 * at + len(words)), targets, texts=text)
    trials = Trials(maker.book(), TrialSettings())
    return {
        name: (
            f"Writes {data.word_classes()[name].plural}",
            trials.make(
                HeadId(0, at),
                ["promote"],
                ["validation", "test"],
                by_source=False,
                alike=all_but(len(TOPICS), at, at + 1, at + 2),
            ),
        )
        for at, name in enumerate(TOPICS)
    }


def all_but(count, *kept):
    """The heads whose rows are to be no foils."""
    return frozenset(HeadId(0, at) for at in range(count)) - {HeadId(0, at % count) for at in kept}


def test_a_topic_is_told_from_others_and_its_null_is_a_guess(graded_topics, encoder):
    found = grade_by_cosine(graded_topics, encoder, 5, 0)
    for name, one in found.items():
        assert one.detection.status == "ok" and one.detection.auc > 0.7, name
        assert one.detection.hits is None and one.detection.balanced_accuracy is None
        assert one.null_n == len(graded_topics) - 3  # the two whose rows are foils say nothing of chance
        assert one.null_auc < one.detection.auc, name  # rows of people are near any description
    assert np.mean([one.null_auc for one in found.values()]) == pytest.approx(0.5, abs=0.15)
    again = grade_by_cosine(graded_topics, encoder, 5, 0)
    assert {key: one.detection.auc for key, one in again.items()} == {
        key: one.detection.auc for key, one in found.items()
    }


class Table:
    """An encoder whose vectors are set: by text, or one at right angles to all of them."""

    name = "table"

    def __init__(self, vectors):
        self.vectors = vectors
        self.texts = []

    def encode(self, texts):
        self.texts += texts
        return np.array([self.vectors(text) for text in texts], dtype=np.float32)


def own_axis(text):
    """Descriptions `d0`, `d1` … point along an axis each; a row along that of the first letter of its source."""
    vector = np.zeros(4)
    vector[int(text[1]) if text[0] == "d" else int(text[0])] = 1
    return vector


@pytest.fixture
def by_axis(book_maker):
    maker = book_maker()
    for at in range(4):
        maker.head(
            HeadId(0, at), range(at * 1000, at * 1000 + 60), lambda place, source: ["t"], texts=texts_of
        )
    trials = Trials(maker.book(), TrialSettings())
    return [
        trials.make(
            HeadId(0, at),
            ["promote"],
            ["validation", "test"],
            by_source=False,
            alike=all_but(4, at, at + 1),
        )
        for at in range(4)
    ]


def texts_of(source):
    return f"{source // 1000}-{source}"


def test_the_null_uses_every_other_text_once_but_none_of_the_heads_in_the_trial(by_axis):
    trials = {f"id{at}": (f"d{at}", trial) for at, trial in enumerate(by_axis)}
    trials["twin"] = ("d0", by_axis[1])  # the words of the first on the rows of the second
    found = grade_by_cosine(trials, Table(own_axis), 5, 0)
    assert [found[f"id{at}"].detection.auc for at in range(4)] == [1.0] * 4
    for at in range(4):
        places = {f"d{other}": other for other in range(4) if other not in (at, (at + 1) % 4)}
        # `d0` is also the text of head 1, as the twin: where that head is in the trial it is left out too.
        if 1 in (at, (at + 1) % 4):
            places.pop("d0", None)
        areas = [
            auc(
                [float(other == at) for _ in by_axis[at].of("own")],
                [float(by_axis[at].items[i].head.head == other) for i in by_axis[at].foils],
            )
            for other in places.values()
        ]
        assert found[f"id{at}"].null_n == len(areas) > 0
        assert found[f"id{at}"].null_auc == pytest.approx(np.mean(areas)) == 0.5
    assert found["twin"].null_n == 1 and found["twin"].detection.auc == 0.5
    only_twins = {key: ("d0", trial) for key, (_, trial) in trials.items()}
    for one in grade_by_cosine(only_twins, Table(own_axis), 5, 0).values():
        assert one.null_auc is None and one.null_n == 0


def test_nothing_to_grade_needs_no_encoder():
    assert grade_by_cosine({}, None, 5, 0) == {}


def test_several_descriptions_of_one_head_are_graded_on_the_same_rows(by_axis):
    areas = best_by_cosine(["d1", "d0", "d0", "d3"], by_axis[0], Table(own_axis), 5)
    assert areas[1] == areas[2] == 1.0
    assert max(areas[0], areas[3]) <= 0.5


def test_a_row_is_read_without_outer_spaces_and_with_its_first_targets(by_axis):
    row = by_axis[0].items[0].row
    shown = type(row)("promote", " France", (" Paris", " Lyon", "Nice "))
    assert row_sentence(shown, 2) == "France: Paris, Lyon"
    assert row_sentence(shown, 9) == "France: Paris, Lyon, Nice"
