"""`describe check --only ablations` on the tiny model, in real processes, with texts and pairs of its own words."""

import json
import sys
import xml.etree.ElementTree as ET

import pytest

from describe.subject import load_subject

shop = sys.modules["jobs_workshop"]
N = 34
# The packaged pairs are hardly any of them single tokens of the tiny vocabulary.
HOOK = (
    "import describe.relations as r, eval.ablation.setups as s\n"
    "found = r.load_relations(['relations'])\n"
    "r.scored_relations = lambda: found\n"
    "s.TEXTS.clear()\n"
    "s.TEXTS.update({'same': '<X> a', 'swapped': 'the <X>', 'few': '<X> a'})\n"
)


@pytest.fixture(scope="module")
def scored(workshop, tmp_path_factory):
    folder = tmp_path_factory.mktemp("scored")
    vocabulary = load_subject(str(workshop.model)).vocabulary
    texts = [text.strip() for text in vocabulary.texts if text.startswith(" ")]
    words = [w for w in dict.fromkeys(texts) if w.isalpha() and len(w) > 2 and vocabulary.word_id(w)]
    (folder / "relations").mkdir()
    for name, targets in (
        ("same", words[:N]),
        ("swapped", words[10:N] + words[:10]),
        ("few", words[1:9]),
    ):
        pairs = list(zip(words[: len(targets)], targets, strict=True))
        (folder / "relations" / f"{name}.json").write_text(json.dumps(pairs))
    found = workshop.call("relations", workshop.model, "--pairs", "relations", cwd=folder)
    assert found.code == 0, found.stderr
    return folder


def place(scored, folder):
    (folder / "relations").symlink_to(scored / "relations")
    (folder / "heads.duckdb").write_bytes((scored / "heads.duckdb").read_bytes())
    return folder


@pytest.fixture(scope="module")
def ablated(workshop, scored, tmp_path_factory):
    folder = place(scored, tmp_path_factory.mktemp("ablated"))
    arguments = ("check", workshop.model, "--only", "ablations", "--plot", "pictures")
    found = workshop.call(*arguments, cwd=folder, hook=HOOK)
    assert found.code == 0, found.stderr
    return folder, found


def test_what_is_printed(ablated):
    _, found = ablated
    lines = found.stdout.splitlines()
    rows = [line.split() for line in lines if line.split()[:1] == ["same"]]
    assert [row[1] for row in rows] == ["zero", "mean", "resample"]
    assert not any(line.split()[:1] == ["swapped"] for line in lines)
    (left_out,) = (line for line in lines if line.startswith("Not ablated: "))
    assert "swapped (accuracy 0.0" in left_out and "few (8 pairs, 30 are needed)" in left_out
    assert "needs the heads of 1 of 1 relations" in found.stdout
    assert "causal_relations" in found.stderr


def test_the_table_says_what_the_catalogue_holds(ablated):
    folder, found = ablated
    rows = [line.split() for line in found.stdout.splitlines() if line.split()[:1] == ["same"]]
    stored = shop.rows_of(
        folder / "heads.duckdb",
        "SELECT method, base_accuracy, n_read, accuracy_relation, accuracy_random, area FROM ablation_current "
        "WHERE relation = 'same' ORDER BY method = 'zero' DESC, method",
    )
    for row, (method, base, read, left, random, area) in zip(rows, stored, strict=True):
        assert row[1:8] == [
            *(method, f"{base:.2f}", str(read), f"{left:.2f}", f"{random:.2f}", "–", f"{area:.2f}")
        ]


def test_every_tested_relation_and_all_areas_are_drawn(ablated):
    folder, _ = ablated
    names = sorted(path.name for path in (folder / "pictures").iterdir())
    assert names == ["tiny.ablation.overview.svg", "tiny.ablation.same.svg"]
    shown = [
        "".join(ET.parse(folder / "pictures" / name).getroot().itertext()).replace("\n", " ")
        for name in names
    ]
    assert "same" in shown[0] and "resample" in shown[0]
    assert all(word in shown[1] for word in ("zero: area", "mean: area", "heads removed", "random heads"))


def test_a_second_run_finds_nothing_to_do(workshop, ablated):
    folder, _ = ablated
    before = shop.content_of(folder / "heads.duckdb")
    again = workshop.call("check", workshop.model, "--only", "ablations", cwd=folder, hook=HOOK)
    assert again.code == 0 and "nothing to do" in again.stdout
    assert shop.content_of(folder / "heads.duckdb") == before


def test_killed_at_any_shard_it_goes_on_to_the_same_content(workshop, scored, ablated, tmp_path):
    content = shop.content_of(ablated[0] / "heads.duckdb")
    for shard in ("base", "task-0"):
        (tmp_path / shard).mkdir()
        folder = place(scored, tmp_path / shard)
        child = workshop.start("check", workshop.model, "--only", "ablations", cwd=folder, hook=HOOK)
        while child.running() and not list(folder.glob(f"heads.duckdb.runs/*/{shard}")):
            pass
        child.kill()
        found = workshop.call("check", workshop.model, "--only", "ablations", cwd=folder, hook=HOOK)
        assert found.code == 0, found.stderr
        assert shop.content_of(folder / "heads.duckdb") == content
        assert not list(folder.glob("heads.duckdb.runs"))


def test_a_check_without_a_choice_ablates_too_where_it_can(workshop, scored, tmp_path):
    folder = place(scored, tmp_path)
    found = workshop.call("check", workshop.model, "--quick", cwd=folder, hook=HOOK)
    assert found.code == 0, found.stderr
    assert "Pearson's r" in found.stdout and "needs the heads of" in found.stdout
    assert shop.rows_of(
        folder / "heads.duckdb", "SELECT DISTINCT method, n_prompts FROM ablation_areas ORDER BY ALL"
    ) == [("zero", 30)]
    # With relations named, correlations are all that is checked.
    before = shop.rows_of(folder / "heads.duckdb", "SELECT count(*) FROM ablation_areas")
    named = workshop.call("check", workshop.model, "--pairs", "relations/same.json", cwd=folder, hook=HOOK)
    assert named.code == 0 and "needs the heads" not in named.stdout
    assert shop.rows_of(folder / "heads.duckdb", "SELECT count(*) FROM ablation_areas") == before


def test_a_catalogue_of_other_relations_is_checked_without_a_word_of_ablation(workshop, scored, tmp_path):
    folder = place(scored, tmp_path)
    found = workshop.call("check", workshop.model, "--quick", "--all", cwd=folder)
    assert "blated" not in found.stdout + found.stderr
    assert shop.rows_of(folder / "heads.duckdb", "SELECT count(*) FROM ablation_areas") == [(0,)]
    asked = workshop.call("check", workshop.model, "--only", "ablations", cwd=folder)
    assert asked.code == 2 and "No relation can be ablated on tiny" in asked.sentence()


def test_options_that_concern_correlations_are_refused(workshop, ablated):
    for option in (("--pairs", "relations"), ("--multi-token",), ("--all",), ("--json", "-")):
        found = workshop.call("check", workshop.model, "--only", "ablations", *option, cwd=ablated[0])
        assert found.code == 2 and "leave out --only ablations" in found.sentence()
