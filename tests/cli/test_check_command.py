"""`describe check` on the tiny model, in real processes: the planted heads do what their weights say."""

import importlib.util
import json
import sys
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

from describe.subject import load_subject
from eval.inference.templates import TEMPLATES

_path = Path(__file__).parents[1] / "jobs" / "workshop.py"
if "jobs_workshop" not in sys.modules:
    _spec = importlib.util.spec_from_file_location("jobs_workshop", _path)
    sys.modules["jobs_workshop"] = importlib.util.module_from_spec(_spec)
    _spec.loader.exec_module(sys.modules["jobs_workshop"])
shop = sys.modules["jobs_workshop"]
COPYING = sys.modules["jobs_tiny_model"].COPYING

N, N_HEADS = 31, 12


@pytest.fixture(scope="module")
def scored(workshop, tmp_path_factory):
    """A folder with relations of the tiny model's words, and a catalogue with their scores from the weights."""
    folder = tmp_path_factory.mktemp("scored")
    vocabulary = load_subject(str(workshop.model)).vocabulary
    found = [text.strip() for text in vocabulary.texts if text.startswith(" ") and text.strip().isalpha()]
    words = [w for w in dict.fromkeys(found) if vocabulary.word_id(w) is not None and len(w) > 2]
    relations = folder / "relations"
    relations.mkdir()
    (relations / "same.json").write_text(json.dumps([[word, word] for word in words[:N]]))
    odd = list(zip(words[:N], reversed(words[N : 2 * N]), strict=True))
    (relations / "odd.json").write_text(json.dumps(odd))
    scored = workshop.call("relations", workshop.model, "--pairs", relations, cwd=folder)
    assert scored.code == 0, scored.stderr
    return folder


def place(scored, folder):
    """A folder of its own with the same relations and catalogue."""
    folder.mkdir(exist_ok=True)
    (folder / "relations").symlink_to(scored / "relations")
    (folder / "heads.duckdb").write_bytes((scored / "heads.duckdb").read_bytes())
    return folder


@pytest.fixture(scope="module")
def checked(workshop, scored, tmp_path_factory):
    folder = place(scored, tmp_path_factory.mktemp("checked"))
    arguments = ("--pairs", "relations", "--json", "out.json", "--plot", "pictures")
    found = workshop.call("check", workshop.model, *arguments, cwd=folder)
    assert found.code == 0, found.stderr
    return folder, found


def test_every_head_template_context_and_readout_has_a_score_with_its_null(checked):
    folder, _ = checked
    per_template = 2 * N_HEADS * 2 * 2 * 2  # relations, contexts, readouts, directions
    counts = shop.rows_of(
        folder / "heads.duckdb",
        "SELECT template, count(*), count(score), count(null_mean), min(n_pairs) FROM dynamic_scores GROUP BY ALL",
    )
    assert sorted(counts) == sorted((text, per_template, per_template, per_template, N) for text in TEMPLATES)
    assert shop.rows_of(
        folder / "heads.duckdb",
        "SELECT count(*), min(n_heads), max(n_heads), min(n_templates) FROM correlation_current",
    ) == [(2 * 2 * 2 * 2, N_HEADS, N_HEADS, len(TEMPLATES))]


def test_planted_copying_heads_copy_in_the_running_model(checked):
    folder, _ = checked
    lifts = {
        (layer, head): (static, dynamic)
        for layer, head, static, dynamic in shop.rows_of(
            folder / "heads.duckdb",
            "SELECT layer, head, static_lift, lift_without_context FROM relation_truth "
            "WHERE relation = 'same' AND preset = 'default' AND direction = 'promote'",
        )
    }
    assert {head for head, (static, _) in lifts.items() if static > 0.8} == set(COPYING)
    # The heads of layer 1 have written the words into the stream before layer 2 reads it: only they do as planted.
    assert {head for head, (_, dynamic) in lifts.items() if dynamic > 0.5} == {(1, 0), (1, 1)}
    ((without, with_context),) = shop.rows_of(
        folder / "heads.duckdb",
        "SELECT max(pearson_r) FILTER (context = 'without'), max(pearson_r) FILTER (context = 'with') "
        "FROM correlation_current WHERE relation = 'same' AND preset = 'default' AND direction = 'promote'",
    )
    assert without > 0.7 > with_context


def test_what_is_printed_written_and_drawn(checked):
    folder, found = checked
    assert "same" in found.stdout and "without / with context" in found.stdout
    rows = json.loads((folder / "out.json").read_text())
    wanted = {
        "relation",
        "preset",
        "context",
        "direction",
        "pearson_r",
        "spearman_r",
        "n_heads",
        "n_templates",
    }
    assert len(rows) == 16 and wanted <= rows[0].keys()
    names = sorted(path.name for path in (folder / "pictures").iterdir())
    assert names == [f"tiny.check.{name}.svg" for name in ("odd", "overview", "same")]
    for name in names:
        text = "".join(ET.parse(folder / "pictures" / name).getroot().itertext())
        assert "tiny" in text and "without context" in text.replace("\n", " ")


@pytest.fixture(scope="module")
def described(workshop, scored, undisturbed, tmp_path_factory):
    """A catalogue with descriptions, relation scores, and both checked."""
    folder = tmp_path_factory.mktemp("described")
    (folder / "heads.duckdb").write_bytes(undisturbed.catalogue.read_bytes())
    assert workshop.call("relations", workshop.model, "--pairs", scored / "relations", cwd=folder).code == 0
    checks = [
        workshop.call("check", workshop.model, *options, cwd=folder)
        for options in (("--pairs", scored / "relations"), ("--only", "agreement"))
    ]
    assert [found.code for found in checks] == [0, 0], [found.stderr for found in checks]
    return folder, checks[1]


def test_show_says_what_the_running_model_does(workshop, described):
    folder, _ = described
    shown = workshop.call("show", "tiny", "L1H0", cwd=folder).stdout
    (line,) = (one for one in shown.splitlines() if "Promotes same (default preset)" in one)
    assert "% with attention on the source alone" in line
    assert "In the running model" in shown and "when shuffled" in shown
    ((own, others),) = shop.rows_of(
        folder / "heads.duckdb",
        "SELECT attribution, attribution_null FROM inference_agreements WHERE layer = 1 AND head = 0 AND cluster IS NULL",
    )
    assert own > others + 0.1 and f"adds {own:+.2f} logits to its own targets" in shown


def test_every_description_has_its_agreement_with_null_and_interval(workshop, described):
    folder, found = described
    catalogue = folder / "heads.duckdb"
    (counts,) = shop.rows_of(
        catalogue,
        "SELECT count(*), count(agreement), count(null_mean), count(q_value), count(q_value_with_context),"
        " count(attribution), count(attribution_null), count(attribution_q),"
        " count(*) FILTER (ci_low <= agreement AND agreement <= ci_high),"
        " (SELECT count(*) FROM descriptions WHERE status = 'described') FROM inference_agreements",
    )
    assert len(set(counts)) == 1 and counts[0] > 0
    front = shop.rows_of(
        catalogue,
        "SELECT layer, head, agreement_inference FROM head_catalogue WHERE status = 'described' ORDER BY ALL",
    )
    assert all(agreement is not None for *_, agreement in front)
    borne_out = dict(((layer, head), agreement) for layer, head, agreement in front)
    assert borne_out[1, 0] > 0.7 and borne_out[1, 1] > 0.7
    assert f"of {counts[0]} descriptions" in found.stdout
    (((both, neither),)) = shop.rows_of(
        catalogue,
        "SELECT (SELECT count(*) FROM disagreements), (SELECT count(*) FROM inference_agreements WHERE q_value >= 0.05)",
    )
    assert both == neither
    again = workshop.call("check", workshop.model, "--only", "agreement", cwd=folder)
    assert again.code == 0 and "nothing to do" in again.stdout


def test_a_quick_agreement_takes_one_text_and_hides_no_whole_one(workshop, undisturbed, described, tmp_path):
    (tmp_path / "heads.duckdb").write_bytes(undisturbed.catalogue.read_bytes())
    ask = "SELECT DISTINCT n_templates FROM inference_agreements"
    quick = workshop.call("check", workshop.model, "--only", "agreement", "--quick", cwd=tmp_path)
    assert quick.code == 0 and shop.rows_of(tmp_path / "heads.duckdb", ask) == [(1,)]
    (tmp_path / "heads.duckdb").write_bytes((described[0] / "heads.duckdb").read_bytes())
    quick = workshop.call("check", workshop.model, "--only", "agreement", "--quick", cwd=tmp_path)
    assert quick.code == 0 and "nothing to do" in quick.stdout
    assert shop.rows_of(tmp_path / "heads.duckdb", ask) == [(len(TEMPLATES),)]


def test_agreement_killed_at_a_template_goes_on_to_the_same_content(workshop, undisturbed, tmp_path):
    contents = []
    for shard in (None, "template-1", "agreement"):
        folder = tmp_path / str(shard)
        folder.mkdir()
        (folder / "heads.duckdb").write_bytes(undisturbed.catalogue.read_bytes())
        if shard is not None:
            child = workshop.start("check", workshop.model, cwd=folder)
            while child.running() and not list(folder.glob(f"heads.duckdb.runs/*/{shard}")):
                pass
            child.kill()
        found = workshop.call("check", workshop.model, cwd=folder)
        assert found.code == 0, found.stderr
        contents.append(shop.content_of(folder / "heads.duckdb"))
    assert len(set(contents)) == 1


def test_a_second_run_finds_nothing_to_do(workshop, checked):
    folder, _ = checked
    before = shop.content_of(folder / "heads.duckdb")
    again = workshop.call("check", workshop.model, "--pairs", "relations", cwd=folder)
    assert again.code == 0 and "nothing to do" in again.stdout
    assert shop.content_of(folder / "heads.duckdb") == before


def test_killed_at_any_template_it_goes_on_to_the_same_content(workshop, scored, checked, tmp_path):
    content = shop.content_of(checked[0] / "heads.duckdb")
    for shard in ("template-0", "template-2", "correlations"):
        folder = place(scored, tmp_path / shard)
        child = workshop.start("check", workshop.model, "--pairs", "relations", cwd=folder)
        while child.running() and not list(folder.glob(f"heads.duckdb.runs/*/{shard}")):
            pass
        child.kill()
        found = workshop.call("check", workshop.model, "--pairs", "relations", cwd=folder)
        assert found.code == 0, found.stderr
        assert shop.content_of(folder / "heads.duckdb") == content
        assert not list(folder.glob("heads.duckdb.runs"))


def test_sources_of_several_tokens_are_kept_apart(workshop, scored, checked, tmp_path):
    vocabulary = load_subject(str(workshop.model)).vocabulary
    words = [source for source, _ in json.loads((scored / "relations" / "same.json").read_text())]
    long = [first + second for first in words[:12] for second in words[12:18]]
    long = [word for word in long if vocabulary.word_id(word) is None][:N]
    pairs = [[word, word] for word in words] + list(zip(long, words, strict=True))
    (tmp_path / "mixed.json").write_text(json.dumps(pairs))
    for command in (("relations",), ("check", "--multi-token")):
        found = workshop.call(*command, workshop.model, "--pairs", "mixed.json", cwd=tmp_path)
        assert found.code == 0, found.stderr
    assert shop.rows_of(
        tmp_path / "heads.duckdb",
        "SELECT DISTINCT sources, template, n_pairs FROM dynamic_scores",
    ) == [("several tokens", TEMPLATES[2], N)]
    assert shop.rows_of(
        tmp_path / "heads.duckdb", "SELECT DISTINCT sources, n_heads FROM correlation_current"
    ) == [("several tokens", N_HEADS)]
    # The weights' scores of one-token sources have no dynamic score of the same kind beside them.
    assert shop.rows_of(tmp_path / "heads.duckdb", "SELECT count(*) FROM relation_truth") == [(0,)]


def test_bad_input_is_one_sentence_and_nothing_stored(workshop, scored, tmp_path):
    found = workshop.call("check", workshop.model, cwd=tmp_path)
    assert found.code == 2 and "no catalogue 'heads.duckdb'" in found.sentence()
    assert list(tmp_path.iterdir()) == []
    folder = place(scored, tmp_path / "copy")
    before = shop.content_of(folder / "heads.duckdb")
    pairs = json.loads((folder / "relations" / "odd.json").read_text())
    (folder / "new.json").write_text(json.dumps(pairs))
    (folder / "few.json").write_text(json.dumps(pairs[:9]))
    for name, word in (
        ("new.json", "new: no scores from the weights"),
        ("few.json", "on tiny"),
        ("no.json", "no.json"),
    ):
        found = workshop.call("check", workshop.model, "--pairs", name, cwd=folder)
        assert found.code == 2 and word in found.sentence(), found.stderr
    assert shop.content_of(folder / "heads.duckdb") == before


def test_other_pairs_under_a_scored_name_are_refused(workshop, scored, tmp_path):
    folder = place(scored, tmp_path / "copy")
    pairs = json.loads((folder / "relations" / "odd.json").read_text())
    (folder / "odd.json").write_text(json.dumps(pairs[::-1][:-1] + [[pairs[0][0], pairs[1][1]]]))
    found = workshop.call("check", workshop.model, "--pairs", "odd.json", cwd=folder)
    assert found.code == 2 and "odd are of other pairs" in found.sentence()


def test_a_quick_run_hides_no_whole_one(workshop, checked, scored, tmp_path):
    folder = tmp_path / "copy"
    place(scored, folder)
    (folder / "heads.duckdb").write_bytes((checked[0] / "heads.duckdb").read_bytes())
    ask = "SELECT DISTINCT n_templates FROM relation_truth"
    truth = shop.rows_of(folder / "heads.duckdb", ask)
    quick = workshop.call("check", workshop.model, "--pairs", "relations", "--quick", cwd=folder)
    assert quick.code == 0, quick.stderr
    assert shop.rows_of(folder / "heads.duckdb", "SELECT count(DISTINCT run_id) FROM dynamic_scores") == [
        (2,)
    ]
    assert shop.rows_of(folder / "heads.duckdb", ask) == truth == [(len(TEMPLATES),)]


def test_options_that_concern_relations_are_refused_for_agreement_alone(workshop, checked):
    for option in (("--plot", "p"), ("--multi-token",), ("--json", "-")):
        found = workshop.call("check", workshop.model, "--only", "agreement", *option, cwd=checked[0])
        assert found.code == 2 and "leave out --only agreement" in found.sentence()
    found = workshop.call("check", workshop.model, "--only", "agreement,batery", cwd=checked[0])
    assert (
        found.code == 2 and "'batery'" in found.sentence() and "correlations, agreement" in found.sentence()
    )


def test_what_a_catalogue_lacks_is_named(workshop, scored, undisturbed, tmp_path):
    (tmp_path / "heads.duckdb").write_bytes(undisturbed.catalogue.read_bytes())
    found = workshop.call("check", workshop.model, "--only", "correlations", cwd=tmp_path)
    assert found.code == 2 and "describe relations" in found.sentence()
    folder = place(scored, tmp_path / "scored")
    found = workshop.call("check", workshop.model, "--only", "agreement", cwd=folder)
    assert found.code == 2 and "describe run" in found.sentence()
