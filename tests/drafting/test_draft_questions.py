"""What a drafter is shown: the drafting rows of a head alone, the same for the same seed."""

from __future__ import annotations

import dataclasses
import json
import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from describe.drafting.llm import NOISE, DraftReply, DraftSettings, HeadEvidence, draft_question
from describe.drafting.replies import schema_of
from describe.drafting.rowbook import RowBook
from describe.drafting.rows import Row
from describe.jobs.asking import evidence_of
from describe.records import DIRECTIONS, HeadId, HeadMappings, is_heldout

HEAD = HeadId(3, 4)
URL = "http://localhost:1/v1"
SETTINGS = DraftSettings("drafter", URL)


def evidence(n=40, n_groups=3, hint=None, head=HEAD):
    """Groups of rows in both directions; the last group is noise."""
    groups = {}
    for direction in DIRECTIONS:
        rows = [
            Row(direction, f" {direction}{i}", tuple(f" t{i}-{j}" for j in range(8)), i, i) for i in range(n)
        ]
        names = [*range(n_groups - 1), NOISE]
        groups[direction] = [(name, rows[at::n_groups]) for at, name in enumerate(names)]
    return HeadEvidence(head, groups, hint)


def shown(request):
    """The rows of a prompt by direction: (number, source, targets)."""
    text = request.messages[-1].content.split("<rows>\n")[1].removesuffix("\n</rows>")
    found = {direction: [] for direction in DIRECTIONS}
    for line in text.splitlines():
        if heading := re.search(r"the head (promote|suppresse)s$", line):
            direction = "promote" if heading[1] == "promote" else "suppress"
        else:
            found[direction].append(tuple(json.loads(line)))
    return found


def test_the_schema_forbids_more_fields_and_requires_every_one():
    schema = json.loads(schema_of(DraftReply))
    objects = [schema, *schema["$defs"].values()]
    assert len(objects) == 2
    for one in objects:
        assert one["additionalProperties"] is False
        assert sorted(one["required"]) == sorted(one["properties"])
    assert draft_question(evidence(), SETTINGS).request.schema == schema_of(DraftReply)


@pytest.mark.parametrize("n", [3, 17, 40])
@pytest.mark.parametrize("most", [1, 10, 30])
def test_the_first_candidate_sees_the_most_salient_rows_of_each_direction(n, most):
    options = dataclasses.replace(SETTINGS, rows=most)
    request = draft_question(evidence(n), options).request
    rows = shown(request)
    for direction in DIRECTIONS:
        assert {source for _, source, _ in rows[direction]} == {
            f" {direction}{i}" for i in range(min(n, most))
        }
        assert all(len(targets) == options.targets for _, _, targets in rows[direction])
    numbers = [number for direction in DIRECTIONS for number, _, _ in rows[direction]]
    assert numbers == list(range(1, 2 * min(n, most) + 1))
    assert f"The head has {len(numbers)} rows here." in request.messages[-1].content


def test_groups_are_named_and_noise_comes_last():
    text = draft_question(evidence(9), SETTINGS).request.messages[-1].content
    headings = re.findall(r"^Group .*$", text, re.MULTILINE)
    groups = ("A", "B", "of the rest")
    assert headings == [
        f"Group {name}: the head {verb}" for verb in ("promotes", "suppresses") for name in groups
    ]


def test_further_candidates_see_a_part_in_another_order():
    options = dataclasses.replace(SETTINGS, candidates=4)
    first = shown(draft_question(evidence(30), options).request)
    orders, parts = set(), set()
    for candidate in range(1, 4):
        question = draft_question(evidence(30), options, candidate)
        assert question.request == draft_question(evidence(30), options, candidate).request
        rows = shown(question.request)
        for direction in DIRECTIONS:
            sources = [source for _, source, _ in rows[direction]]
            assert len(sources) == len(set(sources)) == 24  # 8 of 10 of each group
            assert set(sources) < {source for _, source, _ in first[direction]}
        orders.add(tuple(source for _, source, _ in rows["promote"]))
        parts.add(frozenset(source for _, source, _ in rows["promote"]))
    assert len(orders) == len(parts) == 3


def test_candidates_differ_in_temperature_and_seed():
    options = dataclasses.replace(SETTINGS, temperature=0.1, spread=0.9, seed=7)
    asked = [draft_question(evidence(), options, candidate).request for candidate in range(3)]
    assert [one.temperature for one in asked] == [0.1, 0.9, 0.9]
    assert [one.seed for one in asked] == [7, 8, 9]
    assert len({one.digest(URL) for one in asked}) == 3
    other = draft_question(evidence(), dataclasses.replace(options, seed=8), 1).request
    assert shown(other) != shown(asked[1])
    assert shown(draft_question(evidence(head=HeadId(0, 0)), options, 1).request) != shown(asked[1])


def test_the_hint_is_there_only_where_it_is_asked_for():
    plain = draft_question(evidence(hint="Writes plurals."), SETTINGS).request
    assert plain.messages == draft_question(evidence(), SETTINGS).request.messages
    hinting = dataclasses.replace(SETTINGS, hint=True)
    with_hint = draft_question(evidence(hint="Writes plurals"), hinting).request
    without = draft_question(evidence(), hinting).request
    assert "Writes plurals" in with_hint.messages[-1].content
    assert "Writes plurals" not in plain.messages[-1].content
    assert "nothing that passes its tests" in without.messages[-1].content
    assert "nothing that passes" not in plain.messages[-1].content
    assert len({one.digest(URL) for one in (plain, with_hint, without)}) == 3
    assert shown(with_hint) == shown(plain)


def test_what_is_not_sent_changes_no_digest_and_what_is_sent_does():
    request = draft_question(evidence(), SETTINGS).request
    digest = request.digest(URL)
    assert dataclasses.replace(request, about="x", prompt_digest="y").digest(URL) == digest
    changes = [
        {"chat_model": "other"},
        {"messages": request.messages[:1]},
        {"schema": ""},
        {"max_tokens": 7},
        {"temperature": None},
        {"seed": None},
        {"top_logprobs": 1},
        {"nonce": "n"},
    ]
    others = [dataclasses.replace(request, **change).digest(URL) for change in changes]
    assert len({digest, request.digest("http://other"), *others}) == len(changes) + 2


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.integers(0, 999), min_size=1, max_size=60, unique=True),
    st.integers(0, 3),
    st.integers(0, 3),
    st.randoms(use_true_random=False),
    st.booleans(),
)
def test_no_heldout_row_is_ever_shown(sources, seed, candidate, random, clustered):
    texts = [f" s{i};" for i in range(1000)] + [f" u{i};" for i in range(1000)]
    ids = np.array(sources)
    mappings = [
        HeadMappings(
            head=HEAD,
            direction=direction,
            source_ids=ids,
            saliency=np.ones(len(ids), np.float32),
            contrast=None,
            target_ids=ids[:, None] + 1000,  # the targets of a row are its own too
            logits=np.zeros((len(ids), 1), np.float32),
            z=None,
            heldout=np.array([is_heldout(one, seed) for one in sources]),
        )
        for direction in DIRECTIONS
    ]
    book = RowBook.of(mappings, texts, seed)
    places = list(range(len(ids)))
    random.shuffle(places)
    third = len(places) // 3
    own = {0: places[:third], 4: places[third : 2 * third], NOISE: places[2 * third :]} if clustered else {}
    clusters = {(HEAD, direction): own for direction in DIRECTIONS}
    options = dataclasses.replace(SETTINGS, rows=100, shown=1.0)
    request = draft_question(evidence_of(HEAD, book, clusters), options, candidate).request
    said = "".join(one.content for one in request.messages)
    held = [i for i in sources if is_heldout(i, seed)]
    assert not [i for i in held if f" s{i};" in said or f" u{i};" in said]
    rows = shown(request)
    drafted = {(f" s{i};", f" u{i};") for i in sources if not is_heldout(i, seed)}
    for direction in DIRECTIONS:
        assert {(source, *targets) for _, source, targets in rows[direction]} == drafted
