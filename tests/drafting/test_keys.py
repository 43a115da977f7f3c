"""The vectorised table against the definition, pair by pair."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from describe.drafting.rules import key_rows
from describe.drafting.rules.forms import Operation
from describe.drafting.rules.keys import OperationTable
from describe.drafting.rules.operations import operations, token_classes
from describe.errors import InputError

# ▁ stands for the leading space
TEXTS = [
    text.replace("▁", " ")
    for text in """
▁cat cat Cat CAT ▁cats ▁dog ▁dogs house ▁houses House ▁walk ▁walked walking ▁walks ▁went go ▁goes
▁going ▁gone ▁big ▁bigger ▁biggest ▁quick ▁quickly ▁happy ▁unhappy ▁happiness ▁create ▁creation
▁creative ▁creator ▁one two ▁three ▁first ▁second 1 2 3 10 12 1999 2000 1990 1980s I II III IV
▁Monday ▁Tuesday Mon Jan ▁January ▁may ▁May ▁he ▁him ▁his ▁himself ▁France Paris ▁Italy ▁Rome
▁French ▁good ▁bad ▁hot ▁cold ing ation ▁educ ▁run ning s ▁un ( ▁) [ ] ([ ]) { } . , ▁; : -- ---- =
== != <div </div> <0xE2> if ▁else return ▁def ▁light night ▁flight ▁sight ▁listen ▁silent a b ▁c A B
z ▁café cafe мир ▁Мир 中 α β ▁alpha $ ▁dollar py ▁Python numpy ▁np st nd th ▁king ▁queen ▁red ▁blue
▁colour ▁color ▁saw ▁see ▁sawing ▁seen not n't where ▁place kg ▁kilogram +▁
""".split()
] + ["", " ", "\n", "\ufffd"]

token_texts = st.one_of(
    st.sampled_from(TEXTS),
    st.text("abcdeCAT ", min_size=0, max_size=5),
    st.text("0123456789", min_size=1, max_size=4),
    st.text("(){}[]<>=-+.,!\"' ", min_size=1, max_size=3),
    st.text(min_size=0, max_size=3),
)
vocabularies = st.lists(token_texts, min_size=1, max_size=14)


def oracle(operation: Operation, sources: list[str], targets: list[str]) -> np.ndarray:
    """The definition, every pair on its own [len(sources), len(targets)]."""
    holds = [operation.holds(source, target) for source in sources for target in targets]
    return np.array(holds, dtype=bool).reshape(len(sources), len(targets))


OPEN_RULES = [operation for operation in operations() if operation.source_words is None]


@settings(max_examples=40, deadline=None)
@given(vocabularies, st.data())
def test_hits_and_nulls_of_random_vocabularies_are_those_of_the_definition(texts, draw):
    """For rules that may hold for any text; those about listed words have the fixed vocabulary below."""
    ids = st.integers(0, len(texts) - 1)
    sources, targets = draw.draw(st.lists(ids, max_size=8)), draw.draw(st.lists(ids, max_size=8))
    table = OperationTable(texts, operations=OPEN_RULES)
    for index, operation in enumerate(table.operations):
        expected = oracle(operation, [texts[i] for i in sources], [texts[i] for i in targets])
        np.testing.assert_array_equal(table.hits(index, sources, targets), expected, err_msg=operation.name)
        left, right = np.repeat(sources, len(targets)), np.tile(targets, len(sources))
        np.testing.assert_array_equal(table.pair_hits(index, left, right), expected.ravel())
        null = oracle(operation, texts, texts).mean()
        assert table.null_probability(index) == pytest.approx(null, abs=1e-15), operation.name
        if sources and targets:
            assert table.null_probability(index, sources, targets) == pytest.approx(
                expected.mean(), abs=1e-15
            )


key_sets = st.lists(st.sets(st.integers(0, 6)), min_size=1, max_size=12)


@settings(max_examples=300)
@given(
    key_sets,
    key_sets,
    st.sampled_from(["nothing", "same token", "same word"]),
    st.sampled_from([1, 5, 10_000]),
)
def test_any_keys_on_both_sides_are_counted_exactly(source_sets, target_sets, excludes, chunk):
    size = max(len(source_sets), len(target_sets))
    texts = [("a", " a", "A", "b", " c")[i % 5] + str(i // 3) for i in range(size)]
    by_source = dict(zip(texts, source_sets, strict=False))
    by_target = dict(zip(texts, target_sets, strict=False))
    operation = Operation(
        "any",
        "test",
        "writes",
        lambda t: by_source.get(t, ()),
        lambda t: by_target.get(t, ()),
        1,
        excludes=excludes,
    )
    table = OperationTable(texts, operations=[operation], classes=[])
    expected = oracle(operation, texts, texts)
    everything = np.arange(size)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(key_rows, "_CHUNK", chunk)
        np.testing.assert_array_equal(table.hits(0, everything, everything), expected)
        left, right = np.repeat(everything, size), np.tile(everything, size)
        np.testing.assert_array_equal(table.pair_hits(0, left, right), expected.ravel())
        assert table.null_probability(0) == pytest.approx(expected.mean(), abs=1e-15)


def test_the_library_over_a_fixed_vocabulary_equals_the_definition_and_is_not_empty():
    table = OperationTable(TEXTS)
    everything = np.arange(len(TEXTS))
    holding = 0
    for index, operation in enumerate(table.operations):
        hits = table.hits(index, everything, everything)
        # Tokens without keys hold nothing, so the definition need only be asked about the others.
        sources = [i for i in everything if set(operation.source_keys(TEXTS[i]))]
        targets = [i for i in everything if set(operation.target_keys(TEXTS[i]))]
        expected = np.zeros_like(hits)
        expected[np.ix_(sources, targets)] = oracle(
            operation, [TEXTS[i] for i in sources], [TEXTS[i] for i in targets]
        )
        np.testing.assert_array_equal(hits, expected, err_msg=operation.name)
        assert table.null_probability(index) == pytest.approx(hits.mean(), abs=1e-15), operation.name
        holding += bool(hits.any())
    assert holding > 90


def test_a_subset_of_ids_keeps_the_ids_of_the_vocabulary():
    ids = [5, 3, 8, 40, 41, 2]
    names = ("copy_word", "same_length", "completes_word", "same_first_letter")
    chosen = [operation for operation in operations() if operation.name in names]
    assert len(chosen) == len(names)
    table = OperationTable(TEXTS, ids, operations=chosen)
    for index, operation in enumerate(chosen):
        expected = oracle(operation, [TEXTS[i] for i in (41, 3)], [TEXTS[i] for i in ids])
        np.testing.assert_array_equal(table.hits(index, [41, 3], ids), expected)
    for bad in (4, len(TEXTS), -1):
        with pytest.raises(InputError, match="Token id"):
            table.hits(0, [bad], ids)


def test_class_members_are_those_of_the_definition():
    table = OperationTable(TEXTS)
    everything = np.arange(len(TEXTS)).reshape(-1, 1)
    for index, token_class in enumerate(table.classes):
        expected = [[token_class.contains(text)] for text in TEXTS]
        assert table.class_members(index, everything).tolist() == expected
        assert table.class_share(index) == pytest.approx(np.mean(expected))
        assert table.memberships[index, table.columns_of([3, 1])].tolist() == [expected[3][0], expected[1][0]]
    assert [c.name for c in table.classes] == [c.name for c in token_classes()]


def test_listed_words_are_only_a_short_cut():
    """Without the lists of words that may have keys, every token is looked at and the hits are the same."""
    listed = [operation for operation in operations() if operation.source_words is not None][:40]
    blind = [replace(operation, source_words=None, target_words=None) for operation in listed]
    quick, slow = OperationTable(TEXTS, operations=listed), OperationTable(TEXTS, operations=blind)
    everything = np.arange(len(TEXTS))
    for index in range(len(listed)):
        np.testing.assert_array_equal(
            quick.hits(index, everything, everything), slow.hits(index, everything, everything)
        )


@pytest.mark.parametrize("ids", [[], [1, 1], [-1], [10_000]])
def test_unusable_ids_are_refused_in_a_sentence(ids):
    with pytest.raises(InputError, match="token id"):
        OperationTable(TEXTS, ids)


def test_a_null_needs_something_to_draw_from():
    with pytest.raises(InputError, match="at least one source"):
        OperationTable(TEXTS).null_probability(0, source_ids=[])
