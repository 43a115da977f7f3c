"""Reading relations: two formats, one clear sentence for each fault, inverses and usable pairs."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from describe.errors import InputError
from describe.relations import (
    Inverse,
    Relation,
    inverted,
    load_relation,
    load_relations,
    relation_digest,
    usable_pairs,
)

GOOD: dict[str, object] = {
    "name": "animal_sound",
    "category": "knowledge",
    "description": "An animal and its sound.",
    "sentence": "writes the sound of the animal it reads",
    "source": "this test",
    "licence": "CC0-1.0",
    "thin": True,
    "pairs": [["dog", "bark"], ["cow", "moo"]],
}


def write(folder: Path, content: object, name: str = "animal_sound.json") -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    return path


def relation_of(pairs: list[tuple[str, str]], name: str = "r", inverse: Inverse | None = None) -> Relation:
    return Relation(name, "custom", "d", "s", "o", "l", False, tuple(pairs), inverse)


class Words:
    """A vocabulary of listed words."""

    def __init__(self, *words: str):
        self.words = words

    def word_id(self, word: str) -> int | None:
        return self.words.index(word) if word in self.words else None


def test_our_format_is_read(tmp_path: Path):
    relation = load_relation(write(tmp_path, GOOD))
    assert relation.name == "animal_sound" and relation.category == "knowledge" and relation.thin
    assert relation.pairs == (("dog", "bark"), ("cow", "moo"))
    assert relation.inverse is None


def test_the_paper_format_is_read(tmp_path: Path):
    relation = load_relation(str(write(tmp_path, [["un", "one"], ["deux", "two"]], "my_pairs.json")))
    assert (relation.name, relation.category) == ("my_pairs", "custom")
    assert relation.pairs == (("un", "one"), ("deux", "two"))


def test_a_byte_order_mark_and_accents_are_read(tmp_path: Path):
    path = tmp_path / "x.json"
    path.write_bytes(b"\xef\xbb\xbf" + json.dumps([["été", "summer"]], ensure_ascii=False).encode())
    assert load_relation(path).pairs == (("été", "summer"),)


FAULTS: dict[str, tuple[object, str]] = {
    "malformed JSON": ('[["a", "b"],\n ["c" "d"]]', "not valid JSON at line 2"),
    "a number": (3, "is not a relation"),
    "no pairs": (GOOD | {"pairs": []}, "has no pairs"),
    "an empty list": ([], "has no pairs"),
    "pairs of a wrong type": (GOOD | {"pairs": {"dog": "bark"}}, "'pairs' to be a list"),
    "a pair of three": (GOOD | {"pairs": [["a", "b"], ["c", "d", "e"]]}, "pair 2"),
    "a number in a pair": ([["one", 1]], "pair 1"),
    "a string as a pair": (["ab"], "pair 1"),
    "an empty word": (GOOD | {"pairs": [["dog", " "]]}, "an empty word in pair 1"),
    "a duplicate": ([["a", "b"], ["c", "d"], ["a", "b"]], '["a", "b"] twice'),
    "a contradiction": ([["a", "b"], ["a", "c"]], "'a' two targets, 'b' and 'c'"),
    "an unknown category": (GOOD | {"category": "magic"}, "unknown category 'magic'"),
    "a foreign name": (GOOD | {"name": "other"}, "other.json"),
    "a missing field": ({k: v for k, v in GOOD.items() if k != "licence"}, "'licence'"),
    "an empty field": (GOOD | {"sentence": ""}, "'sentence'"),
    "a field of a wrong type": (GOOD | {"source": 5}, "'source'"),
    "thin as a word": (GOOD | {"thin": "yes"}, "'thin'"),
    "an unknown field": (GOOD | {"license": "MIT"}, "'license'"),
    "an inverse of a wrong type": (GOOD | {"inverse": "sound_animal"}, "'inverse'"),
    "an inverse without a name": (GOOD | {"inverse": {"sentence": "x", "description": "y"}}, "'name'"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_each_fault_gives_one_sentence_with_the_file_name(tmp_path: Path, fault: str):
    content, expected = FAULTS[fault]
    with pytest.raises(InputError) as caught:
        load_relation(write(tmp_path, content))
    message = str(caught.value)
    assert expected in message and "animal_sound.json" in message
    assert message.endswith(".") and "\n" not in message


@pytest.mark.parametrize(
    "make", [lambda path: None, lambda path: path.mkdir(), lambda path: path.write_bytes(b"\xff\xfe[")]
)
def test_an_unreadable_file_is_an_input_error(tmp_path: Path, make):
    path = tmp_path / "x.json"
    make(path)
    with pytest.raises(InputError, match=r"x\.json cannot be read"):
        load_relation(path)


def test_files_and_nested_folders_are_collected(tmp_path: Path):
    # The paper keeps each relation in a folder of its own.
    write(tmp_path, [["a", "b"]], "set/first/first.json")
    write(tmp_path, [["c", "d"]], "set/second/second.json")
    alone = write(tmp_path, GOOD)
    names = [relation.name for relation in load_relations([tmp_path / "set", alone, str(alone)])]
    assert names == ["first", "second", "animal_sound"]


def test_a_folder_without_relations_is_an_input_error(tmp_path: Path):
    with pytest.raises(InputError, match=r"no \.json file"):
        load_relations([tmp_path])


def test_a_name_taken_by_other_pairs_is_an_input_error(tmp_path: Path):
    first = write(tmp_path, [["a", "b"]], "one/same.json")
    second = write(tmp_path, [["a", "c"]], "two/same.json")
    with pytest.raises(InputError, match="takes the name 'same'"):
        load_relations([first, second])


def test_the_packaged_relations_are_the_default():
    relations = {relation.name: relation for relation in load_relations()}
    assert ("France", "Paris") in relations["country_to_capital"].pairs


def test_the_inverse_leaves_out_ambiguous_targets():
    relation = relation_of([("Spain", "Spanish"), ("Mexico", "Spanish"), ("Japan", "Japanese")])
    assert inverted(relation) is None
    back = inverted(relation_of(list(relation.pairs), inverse=Inverse("back", "d", "s")))
    assert back is not None and back.name == "back"
    assert back.pairs == (("Japanese", "Japan"),)
    assert back.inverse == Inverse("r", "d", "s")


def test_only_pairs_of_single_tokens_are_usable():
    relation = relation_of([("dog", "bark"), ("cow", "moo"), ("whale", "song")])
    assert usable_pairs(relation, Words("bark", "dog", "song", "cow")) == [(1, 0)]
    assert usable_pairs(relation, Words()) == []


words = st.text(alphabet="abcé ", min_size=1).map(lambda text: f"w{text}w")
pair_lists = st.dictionaries(words, words, min_size=1, max_size=8).map(lambda table: list(table.items()))


@given(pair_lists, st.randoms())
def test_the_digest_depends_on_the_pairs_and_not_on_their_order(pairs, random):
    shuffled = random.sample(pairs, len(pairs))
    assert relation_digest(relation_of(pairs)) == relation_digest(relation_of(shuffled))
    changed = [(pairs[0][0], pairs[0][1] + "x"), *pairs[1:]]
    assert relation_digest(relation_of(pairs)) != relation_digest(relation_of(changed))
    assert relation_digest(relation_of(pairs)) != relation_digest(relation_of(pairs, name="q"))


@given(pair_lists)
def test_what_is_written_is_read_back(tmp_path_factory, pairs):
    path = write(tmp_path_factory.mktemp("relation"), [list(pair) for pair in pairs], "back.json")
    assert load_relation(path).pairs == tuple(pairs)
