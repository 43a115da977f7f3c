"""Relations made for a tokenizer, on both packaged ones: every pair is what its name says."""

import pytest

from describe.relations import load_relations, usable_pairs
from describe.relations.generated import FEW, generated_relations
from describe.subject import load_subject

CHECKS = {
    "word_to_capitalised": lambda s, t: t.strip() == s.strip().capitalize() and s[0] == t[0] == " ",
    "capitalised_to_word": lambda s, t: s.strip() == t.strip().capitalize(),
    "word_to_all_capitals": lambda s, t: t.strip() == s.strip().upper(),
    "word_to_unspaced": lambda s, t: s == f" {t}",
    "unspaced_to_word": lambda s, t: t == f" {s}",
    "word_to_capital_letter": lambda s, t: t.strip() == s.strip()[0].upper(),
    "word_to_second_letter": lambda s, t: t.strip() == s.strip()[1],
    "word_to_length": lambda s, t: int(t) == len(s.strip()),
    "word_to_prefix": lambda s, t: s.startswith(t) and len(s) > len(t) + 2,
    "word_to_suffix": lambda s, t: s.endswith(t) and len(s) > len(t) + 2,
    "fragment_to_continuation": lambda s, t: (s + t).strip().isalpha(),
    "accented_to_plain": lambda s, t: not s.isascii() and t.isascii() and len(s) == len(t),
    "integer_to_next": lambda s, t: int(t) == int(s) + 1,
}


@pytest.fixture(scope="module", params=["smollm2", "gemma3-270m"])
def vocabulary(request):
    return load_subject(request.param).vocabulary


def test_every_generated_pair_is_what_its_relation_says(vocabulary):
    relations = generated_relations(vocabulary)
    assert {relation.name for relation in relations} == CHECKS.keys()
    for relation in relations:
        assert len(usable_pairs(relation, vocabulary)) == len(relation.pairs) == len(dict(relation.pairs))
        assert relation.thin == (len(relation.pairs) < FEW)
        for source, target in relation.pairs:
            assert CHECKS[relation.name](source, target), (relation.name, source, target)


def test_most_generated_relations_have_plenty_of_pairs(vocabulary):
    sizes = {relation.name: len(relation.pairs) for relation in generated_relations(vocabulary)}
    assert sum(size >= 50 for size in sizes.values()) >= 12


def test_eighty_relations_can_be_scored_on_each_vocabulary(vocabulary):
    kept = [r for r in load_relations() if len(usable_pairs(r, vocabulary)) >= (5 if r.thin else FEW)]
    assert len(kept) + len(generated_relations(vocabulary)) >= 100
