"""`describe relations` on the tiny model, in real processes: scores, nulls, errors, resuming, pictures."""

import importlib.util
import json
import sys
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

import data
from describe.relations import load_relation
from describe.subject import load_subject

_path = Path(__file__).parents[1] / "jobs" / "workshop.py"
if "jobs_workshop" not in sys.modules:
    _spec = importlib.util.spec_from_file_location("jobs_workshop", _path)
    sys.modules["jobs_workshop"] = importlib.util.module_from_spec(_spec)
    _spec.loader.exec_module(sys.modules["jobs_workshop"])
shop = sys.modules["jobs_workshop"]
COPYING = sys.modules["jobs_tiny_model"].COPYING

RELATIONS = Path(data.__file__).parent / "relations"
N_HEADS, KS = 12, (1, 3, 5, 10, 25)
N = 31  # pairs of a relation; with fewer than 30 it would be thin


@pytest.fixture(scope="module")
def words(workshop):
    """Words that are single tokens of the tiny model, by token id."""
    vocabulary = load_subject(str(workshop.model)).vocabulary
    found = [text.strip() for text in vocabulary.texts if text.startswith(" ") and text.strip().isalpha()]
    return [word for word in dict.fromkeys(found) if vocabulary.word_id(word) is not None and len(word) > 2]


@pytest.fixture(scope="module")
def files(tmp_path_factory, words):
    """Two relations: words copied, and the same words paired off at random (nothing that a head could do)."""
    folder = tmp_path_factory.mktemp("relations")
    assert len(words) >= 2 * N
    (folder / "same.json").write_text(json.dumps([[word, word] for word in words[:N]]))
    (folder / "odd.json").write_text(
        json.dumps(list(zip(words[:N], reversed(words[N : 2 * N]), strict=True)))
    )
    return folder


@pytest.fixture(scope="module")
def stored(workshop, files, tmp_path_factory):
    folder = tmp_path_factory.mktemp("scored")
    found = workshop.call(
        "relations", workshop.model, "--pairs", files, "--json", "out.json", "--plot", "pictures", cwd=folder
    )
    assert found.code == 0, found.stderr
    return folder, found


def test_every_head_relation_preset_direction_and_k_has_a_row_with_its_null(stored):
    folder, found = stored
    assert "2 relations scored on 12 heads" in found.stdout
    counts = shop.rows_of(
        folder / "heads.duckdb",
        "SELECT preset, count(*), count(DISTINCT (layer, head, relation, direction, k)), count(null_mean), count(q_value), "
        "count(*) FILTER (main) FROM relation_scores GROUP BY ALL ORDER BY ALL",
    )
    rows = N_HEADS * 2 * 2 * len(KS)
    assert counts == [(preset, rows, rows, rows, rows, N_HEADS * 2 * 2) for preset in ("default", "paper")]
    assert shop.rows_of(
        folder / "heads.duckdb", "SELECT relation, count(*) FROM relation_pairs GROUP BY ALL ORDER BY ALL"
    ) == [("odd", N), ("same", N)]


def test_planted_copying_heads_implement_copying_and_nothing_else_does_anything(stored):
    folder, _ = stored
    heads = shop.rows_of(
        folder / "heads.duckdb",
        "SELECT DISTINCT relation, layer, head FROM relation_heads WHERE preset = 'default' ORDER BY ALL",
    )
    assert heads == [("same", layer, head) for layer, head in sorted(COPYING)]
    ((lift, identity, k),) = shop.rows_of(
        folder / "heads.duckdb",
        "SELECT min(lift), min(identity_score - score), any_value(k) FROM relation_heads WHERE preset = 'default'",
    )
    assert lift > 0.8 and identity == 0 and k == 1


def test_json_has_the_fields_that_scripts_rely_on(stored):
    folder, _ = stored
    rows = json.loads((folder / "out.json").read_text())
    assert len(rows) == 2 * 2 * N_HEADS * 2
    wanted = {"layer", "head", "relation", "direction", "k", "score", "n_pairs", "lift", "q_value"}
    assert wanted <= rows[0].keys() and {row["k"] for row in rows} == {1, 10}


def test_pictures_open_as_svg(stored):
    folder, _ = stored
    names = sorted(path.name for path in (folder / "pictures").iterdir())
    assert names == [f"tiny.{p}.{r}.svg" for p in ("default", "paper") for r in ("odd", "overview", "same")]
    for name in names:
        root = ET.parse(folder / "pictures" / name).getroot()
        text = "".join(root.itertext())
        assert root.tag.endswith("svg") and "tiny" in text and "layer" in text


def test_show_and_the_front_door_say_what_a_head_implements(workshop, stored, undisturbed, tmp_path, files):
    (tmp_path / "heads.duckdb").write_bytes(undisturbed.catalogue.read_bytes())
    assert workshop.call("relations", workshop.model, "--pairs", files, cwd=tmp_path).code == 0
    layer, head = COPYING[0]
    shown = workshop.call("show", "tiny", f"L{layer}H{head}", cwd=tmp_path)
    assert "Promotes same (default preset): " in shown.stdout
    front = shop.rows_of(
        tmp_path / "heads.duckdb",
        "SELECT layer, head, top_relation, top_relation_direction, top_relation_lift > 0.8 FROM head_catalogue "
        "WHERE top_relation IS NOT NULL ORDER BY ALL",
    )
    assert front == [(layer, head, "same", "promote", True) for layer, head in sorted(COPYING)]


def test_a_second_run_finds_nothing_to_do(workshop, stored, files):
    folder, _ = stored
    again = workshop.call("relations", workshop.model, "--pairs", files, cwd=folder)
    assert again.code == 0 and "nothing to do" in again.stdout


def test_a_name_that_stands_for_other_pairs_is_refused_and_nothing_stored(workshop, stored, words, tmp_path):
    folder, _ = stored
    before = shop.content_of(folder / "heads.duckdb")
    (tmp_path / "same.json").write_text(json.dumps([[word, word] for word in words[: N - 1]]))
    found = workshop.call("relations", workshop.model, "--pairs", tmp_path / "same.json", cwd=folder)
    assert found.code == 2 and "relation 'same' with other pairs" in found.sentence()
    assert shop.content_of(folder / "heads.duckdb") == before


@pytest.mark.parametrize(
    ("content", "words_of_it"),
    [
        ("[[", "not valid JSON"),
        ('{"pairs": 3}', "needs 'name'"),
        ("[[1, 2]]", "two strings"),
        ('[["a", "b"], ["a", "b"]]', "twice"),
        ('[["a", "b"], ["a", "c"]]', "two targets"),
        ('[["a", ""]]', "empty word"),
        ('[["zzqqxx", "qqxxzz"]]', "No relation has the pairs"),
    ],
)
def test_a_bad_relation_is_one_sentence_and_nothing_stored(workshop, tmp_path, content, words_of_it):
    (tmp_path / "bad.json").write_text(content)
    found = workshop.call("relations", workshop.model, "--pairs", "bad.json", cwd=tmp_path)
    assert found.code == 2 and words_of_it in found.sentence()
    assert not (tmp_path / "heads.duckdb").exists()


def test_other_bad_input(workshop, tmp_path, files):
    for args, code, word in (
        ((), 2, "Name a model"),
        ((workshop.model, "--pairs", "nowhere.json"), 2, "nowhere.json"),
        ((workshop.model, "--pairs", files, "--k", "7"), 2, "7 is none of them"),
        ((workshop.model, "--pairs", files, "--preset", "papper"), 2, "papper"),
        ((workshop.model, "--multi-token", "--preset", "paper"), 2, "block 0"),
    ):
        found = workshop.call("relations", *args, cwd=tmp_path)
        assert found.code == code and word in found.sentence(), found.stderr
    assert not (tmp_path / "heads.duckdb").exists()


def test_few_pairs_are_scored_only_when_marked_thin(workshop, words, tmp_path):
    few = [[word, word] for word in words[:12]]
    ours = {
        "name": "few",
        "category": "custom",
        "description": "Few.",
        "sentence": "writes few",
        "source": "here",
    }
    ours |= {"licence": "CC0-1.0", "thin": False, "pairs": few}
    (tmp_path / "few.json").write_text(json.dumps(ours))
    found = workshop.call("relations", workshop.model, "--pairs", "few.json", cwd=tmp_path)
    assert found.code == 2 and "thin" in found.sentence()
    (tmp_path / "few.json").write_text(json.dumps(ours | {"thin": True}))
    found = workshop.call("relations", workshop.model, "--pairs", "few.json", cwd=tmp_path)
    assert found.code == 0, found.stderr
    assert shop.rows_of(tmp_path / "heads.duckdb", "SELECT DISTINCT thin, n_pairs FROM relation_scores") == [
        (True, 12)
    ]


def test_killed_at_any_layer_it_goes_on_to_the_same_content(workshop, stored, files, tmp_path):
    folder, _ = stored
    content = shop.content_of(folder / "heads.duckdb")
    for number, shard in enumerate(("layer-0", "layer-1", "layer-2", "scores")):
        place = tmp_path / str(number)
        place.mkdir()
        child = workshop.start("relations", workshop.model, "--pairs", files, cwd=place)
        while child.running() and not list(place.glob(f"heads.duckdb.runs/*/{shard}")):
            pass
        child.kill()
        found = workshop.call("relations", workshop.model, "--pairs", files, cwd=place)
        assert found.code == 0, found.stderr
        assert shop.content_of(place / "heads.duckdb") == content
        assert shop.left_behind(place) == []


def test_sources_of_several_tokens_are_scored_apart(workshop, words, tmp_path):
    vocabulary = load_subject(str(workshop.model)).vocabulary
    long = [first + second for first in words[:12] for second in words[12:18]]
    long = [word for word in long if vocabulary.word_id(word) is None][:N]
    (tmp_path / "long.json").write_text(json.dumps(list(zip(long, words[:N], strict=True))))
    found = workshop.call("relations", workshop.model, "--pairs", "long.json", "--multi-token", cwd=tmp_path)
    assert found.code == 0, found.stderr
    assert shop.rows_of(
        tmp_path / "heads.duckdb",
        "SELECT DISTINCT sources, targets, preset, n_pairs, identity_score FROM relation_scores",
    ) == [("several tokens", "whole word", "default", N, None)]


def test_the_packaged_relations_pass_their_check(workshop, tmp_path):
    found = workshop.call("relations", "--check", cwd=tmp_path)
    assert found.code == 0, found.stderr
    lines = found.stdout.splitlines()
    (capitals,) = (line.split() for line in lines if line.split()[:1] == ["country_to_capital"])
    name, category, pairs, *usable = capitals
    assert category == "knowledge" and int(pairs) == len(load_relation(RELATIONS / f"{name}.json").pairs)
    assert len(usable) == 2 and all(30 <= int(n) <= int(pairs) for n in usable)
    assert "no duplicate" in lines[-1] and int(lines[-1].split()[0]) >= 80
