"""Escaping by its laws, and the excluded tokens against planted rows and both packaged models."""

import json
from dataclasses import dataclass

import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st

from describe.core.tokens import REASONS, TokenFilter, escape, excluded_tokens, under_trained
from describe.subject.sources import Checkpoint
from describe.subject.stores import open_store
from describe.subject.vocabulary import load_vocabulary


@given(st.text())
@example("\x1b[31mred\x1b[0m")
@example('", "ignore the above": "\\')
@example("\u202egnp.exe\u202c \u200b\ufeff\u00ad\u2028\u3164\u115f\U000e0041\ufe0f")
@example("\u0301e")
def test_escape_round_trips_and_shows_nothing_dangerous(text):
    shown = escape(text)
    assert json.loads(shown) == text
    assert shown.isprintable()
    inner = shown[1:-1]
    assert not set(inner) & set("\u3164\u115f\u1160\uffa0\u034f\u2800\ufe0f")
    assert "\n" not in shown and "\x1b" not in shown
    assert '"' not in inner.replace("\\\\", "").replace('\\"', "")


@given(st.text(), st.text())
def test_escape_tells_texts_apart(one, other):
    assert (escape(one) == escape(other)) == (one == other)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        (" Paris", '" Paris"'),
        ("東京 é ß", '"東京 é ß"'),
        ("🙂", '"🙂"'),
        ('say "hi", \\o/', '"say \\"hi\\", \\\\o/"'),
        ("a\nb\t", '"a\\nb\\t"'),
        ("\u00a0", '"\\u00a0"'),
        ("\x9b31m", '"\\u009b31m"'),
        ("\u200d", '"\\u200d"'),
        ("\U000e0041", '"\\udb40\\udc41"'),
        ("\u0301", '"\\u0301"'),
        ("e\u0301", '"e\u0301"'),
    ],
)
def test_escape_examples(text, shown):
    assert escape(text) == shown


@dataclass(frozen=True)
class Sets:
    special: frozenset[int] = frozenset()
    unused: frozenset[int] = frozenset()
    padding: frozenset[int] = frozenset()
    never_produced: frozenset[int] = frozenset()


def planted(n=500, d=64, seed=0):
    """Trained rows around a common mean; rows 0 to 19 all near one other point, as untrained rows are."""
    generator = torch.Generator().manual_seed(seed)
    rows = torch.randn(n, d, generator=generator) + torch.randn(d, generator=generator)
    rows[:20] = 1.5 * torch.randn(d, generator=generator) + 0.05 * torch.randn(20, d, generator=generator)
    return rows


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_planted_untrained_rows_are_found_and_no_others(dtype):
    rows = planted().to(dtype)
    assert under_trained(rows, reference=range(10)) == tuple(range(20))
    # a reference with some trained rows among it still points the right way
    assert under_trained(rows, reference=[*range(8), 30, 40, 50]) == tuple(range(20))


def test_no_verdict_without_a_common_direction():
    rows = planted()
    assert under_trained(rows) == ()
    assert under_trained(rows, reference=[0, 1]) == ()
    assert under_trained(rows, reference=range(100, 140)) == ()


def test_untied_rules_look_at_both_matrices():
    W_U_rows = planted()
    W_E = torch.randn(500, 64, generator=torch.Generator().manual_seed(5))
    W_E[[33, 44]] *= 1e-3
    assert under_trained(W_E, W_U_rows, reference=range(10)) == (*range(20), 33, 44)
    assert under_trained(W_E, reference=range(10)) == ()  # tied: a small norm is no sign
    assert under_trained(torch.ones(500, 64), W_U_rows, reference=range(10)) == tuple(range(20))


def test_each_id_has_the_first_reason_that_fits():
    sets = Sets(
        special=frozenset({1, 2}),
        unused=frozenset({2, 3}),
        padding=frozenset({4, 5}),
        never_produced=frozenset({5, 6}),
    )
    reasons = excluded_tokens(sets, planted())
    assert tuple(reasons) == REASONS
    assert reasons["special"] == (1, 2) and reasons["unused"] == (3,)
    assert reasons["padding"] == (4, 5) and reasons["never_produced"] == (6,)
    assert reasons["under_trained"] == (0, *range(7, 20))
    chosen = TokenFilter(500, reasons)
    assert chosen.excluded == frozenset(range(20))
    assert chosen.kept.tolist() == [False] * 20 + [True] * 480
    assert sum(chosen.counts.values()) == 20
    assert TokenFilter.none(7).kept.all() and not TokenFilter.none(7).excluded


COMMON = """the of and to in is was for that with he she it they we you time people year way day man woman world life
hand part child eye place work week case point government company number group problem fact red blue green water fire
dog cat house city country France Paris Germany Berlin January Monday one two three walk walked walking good better
best king queen mother father computer science music Michael John David Sarah London China""".split()


@pytest.mark.parametrize(
    ("fixture", "n_vocab", "glitch", "at_most"),
    [
        ("smollm2_path", 49152, ["PlaneProtection", " transistorsum", "\x00"], 60),
        ("gemma3_path", 262144, ["SrvGroup", "getFocusAreas", "\U00012239"], 2000),
    ],
)
def test_packaged_models_lose_glitch_tokens_and_no_ordinary_word(fixture, n_vocab, glitch, at_most, request):
    checkpoint = Checkpoint("packaged", None, request.getfixturevalue(fixture))
    vocabulary = load_vocabulary(checkpoint, n_vocab)
    W_E = open_store(checkpoint).read("model.embed_tokens.weight")
    reasons = excluded_tokens(vocabulary, W_E)
    excluded = TokenFilter(n_vocab, reasons).excluded
    assert vocabulary.special | vocabulary.unused <= excluded
    found = {vocabulary.texts[index] for index in reasons["under_trained"]}
    assert set(glitch) <= found and len(found) <= at_most
    words = {word: vocabulary.word_id(word) for word in COMMON}
    assert sum(index is not None for index in words.values()) > 70
    assert not [word for word, index in words.items() if index in excluded]
