"""The job on a tiny model with planted copying heads: what it stores, resumes and refuses."""

import json
import sys
from dataclasses import replace

import numpy as np
import pytest

from describe.catalogue import Catalogue
from describe.errors import InputError
from describe.relations import load_relations
from describe.subject import load_subject
from eval.ablation import ablating
from eval.ablation.ablating import AblationJob, AblationOptions
from eval.ablation.heads import steps
from eval.ablation.passes import METHODS, RunningTask

shop = sys.modules["jobs_workshop"]
COPYING = sys.modules["jobs_tiny_model"].COPYING
N = 34
TEXTS = {"same": "<X> a", "swapped": "the <X>", "few": "a <X>", "unscored": "a <X>"}


@pytest.fixture(scope="module")
def scored(workshop, tmp_path_factory):
    """A model, relations of its words, and a catalogue with the scores of all of them but one."""
    folder = tmp_path_factory.mktemp("scored")
    model = load_subject(str(workshop.model))
    texts = [text.strip() for text in model.vocabulary.texts if text.startswith(" ")]
    words = [
        w
        for w in dict.fromkeys(texts)
        if w.isalpha() and len(w) > 2 and model.vocabulary.word_id(w) is not None
    ]
    (folder / "relations").mkdir()
    pairs = {
        "same": [[word, word] for word in words[:N]],
        "swapped": list(zip(words[:N], words[10:N] + words[:10], strict=True)),
        "few": list(zip(words[:9], words[20:29], strict=True)),
        "odd": list(zip(words[:N], words[1:N] + words[:1], strict=True)),  # has no text
    }
    for name, own in pairs.items():
        (folder / "relations" / f"{name}.json").write_text(json.dumps(own))
    found = workshop.call("relations", workshop.model, "--pairs", "relations", cwd=folder)
    assert found.code == 0, found.stderr
    (folder / "relations" / "unscored.json").write_text(json.dumps(pairs["swapped"]))
    return model, load_relations([folder / "relations"]), folder / "heads.duckdb"


@pytest.fixture
def place(scored, tmp_path):
    """A job's maker with a catalogue of its own."""
    model, relations, source = scored
    catalogue = tmp_path / "heads.duckdb"
    catalogue.write_bytes(source.read_bytes())

    def make(progress=lambda *told: None, excluded=None, **options):
        chosen = replace(AblationOptions(relations, TEXTS, pairs=32), **options)
        return AblationJob(model, excluded or {}, catalogue, chosen, progress)

    return catalogue, make


@pytest.fixture(scope="module")
def done(scored, tmp_path_factory):
    """A finished run: its catalogue, the job, and what it told."""
    model, relations, source = scored
    catalogue = tmp_path_factory.mktemp("done") / "heads.duckdb"
    catalogue.write_bytes(source.read_bytes())
    told = []
    job = AblationJob(
        model, {}, catalogue, AblationOptions(relations, TEXTS, pairs=32), lambda *one: told.append(one)
    )
    return catalogue, job, job.run(), told


def test_what_can_be_ablated_and_why_the_rest_cannot(done):
    _, job, report, _ = done
    assert set(job.set_ups) == {"same", "swapped"}
    assert report.fresh and report.left_out == {
        "few": "9 pairs, 30 are needed",
        "unscored": "no scores from the weights",
    }
    assert {len(one.relation.sources) for one in job.set_ups.values()} == {32}  # sampled


def test_heads_go_by_their_static_score(done):
    catalogue, job, _, _ = done
    rows = shop.rows_of(
        catalogue,
        "SELECT layer * 4 + head FROM relation_current WHERE relation = 'same' AND preset = 'default' "
        "AND direction = 'promote' AND score > 0 ORDER BY score DESC, layer DESC, head DESC LIMIT 6",
    )
    heads = job.set_ups["same"].heads.tolist()
    assert heads == [head for (head,) in rows]
    assert set(heads[:3]) == {layer * 4 + head for layer, head in COPYING}


def test_every_step_is_there_once(done):
    catalogue, job, _, _ = done
    testable = {
        name for (name,) in shop.rows_of(catalogue, "SELECT relation FROM ablation_areas WHERE testable")
    }
    assert "same" in testable
    for name in testable:
        m = len(job.set_ups[name].heads)
        rows = shop.rows_of(
            catalogue,
            "SELECT method, heads, draw, list(n_ablated ORDER BY n_ablated) FROM ablations "
            "WHERE relation = ? AND heads <> 'control' AND task = relation GROUP BY ALL",
            [name],
        )
        sets = [("relation", None), *(("random", draw) for draw in range(5))]
        expected = [(method, *one, steps(m)) for method in METHODS for one in sets]
        assert sorted(rows, key=str) == sorted(expected, key=str)
    ((least, most, wrong),) = shop.rows_of(
        catalogue,
        "SELECT min(n_prompts), max(n_prompts), count(*) FILTER (NOT ci_low <= accuracy OR NOT accuracy <= ci_high) "
        "FROM ablations",
    )
    assert least == most == 32 and wrong == 0


def test_the_planted_heads_are_causal_and_their_area_is_that_of_the_stored_curves(done):
    catalogue, _, _, _ = done
    found = shop.rows_of(
        catalogue,
        "SELECT method, area, ci_low, ci_high, q_value, causal, base_accuracy, n_read, accuracy_relation, "
        "accuracy_random, accuracy_random_sd, n_heads FROM ablation_current WHERE relation = 'same'",
    )
    assert {row[0] for row in found} == set(METHODS)
    for method, area, low, high, q, causal, base, read, left, random, sd, m in found:
        curves = {
            name: np.array(
                shop.rows_of(
                    catalogue,
                    "SELECT n_ablated, avg(accuracy), stddev_samp(accuracy) FROM ablations WHERE relation = 'same' "
                    "AND method = ? AND heads = ? GROUP BY n_ablated ORDER BY n_ablated",
                    [method, name],
                ),
                dtype=float,
            )
            for name in ("relation", "random")
        }
        gap = curves["random"][:, 1] - curves["relation"][:, 1]
        assert area == pytest.approx(np.trapezoid(gap, curves["relation"][:, 0]) / m)
        assert curves["relation"][0, 1] == curves["random"][0, 1] == base
        at = np.flatnonzero(curves["relation"][:, 0] == read)[0]
        lost = np.flatnonzero(curves["relation"][:, 1] == 0)
        assert at == (lost[0] if len(lost) else len(curves["relation"]) - 1)
        assert (left, random, sd) == pytest.approx((curves["relation"][at, 1], *curves["random"][at, 1:]))
        assert low <= area <= high and causal == (low > 0 and q < 0.05)
    zero = next(row for row in found if row[0] == "zero")
    assert zero[5] and zero[6] > 0.3 and zero[8] < zero[9]
    ((methods,),) = shop.rows_of(catalogue, "SELECT methods FROM causal_relations WHERE relation = 'same'")
    assert methods == sorted(row[0] for row in found if row[5])


def test_what_the_model_cannot_do_is_stored_as_not_testable(done):
    catalogue, _, _, _ = done
    rows = shop.rows_of(
        catalogue,
        "SELECT method, testable, causal, area, p_value, q_value, accuracy_relation, base_accuracy < 0.1, reason "
        "FROM ablation_areas WHERE relation = 'swapped' ORDER BY method",
    )
    assert [row[0] for row in rows] == sorted(METHODS)
    assert all(row[1:8] == (False, False, None, None, None, None, True) for row in rows)
    assert all("0.1 is needed" in row[8] for row in rows)
    assert not shop.rows_of(catalogue, "SELECT 1 FROM ablations WHERE relation = 'swapped'")


def test_progress_reaches_the_end_of_every_stage(done):
    *_, told = done
    last = {stage: (number, total) for stage, number, total in told}
    assert set(last) == {"ablation: all heads in place", "ablation 1 of 2: same"}
    assert all(number == total for number, total in last.values())


def test_a_second_run_has_nothing_to_do_and_other_options_are_another_run(done, place):
    catalogue, job, report, _ = done
    again = AblationJob(job.model, {}, catalogue, job.options)
    assert again.run() == replace(report, fresh=False)
    _, make = place
    ids = {
        make(**options).run_id
        for options in (
            *({}, {"preset": "paper"}, {"methods": ("zero",)}, {"pairs": 31}, {"draws": 6}, {"seed": 1}),
            *({"texts": TEXTS | {"same": "<X> an"}}, {"strongest": 1}),
        )
    }
    assert len(ids) == 8 and report.run_id in ids
    assert make(device="cuda").run_id == report.run_id


def test_a_run_that_was_cut_off_goes_on_from_its_shards_to_the_same_content(done, place, monkeypatch):
    catalogue, make = place
    tasks = []

    class Counted(RunningTask):
        def __init__(self, *args):
            super().__init__(*args)
            tasks.append(self)

    def fails(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(ablating, "RunningTask", Counted)
    with monkeypatch.context() as cut:
        cut.setattr(AblationJob, "_judge", fails)
        with pytest.raises(KeyboardInterrupt):
            make().run()
    assert len(tasks) == 2
    assert make().run().fresh and len(tasks) == 2  # every task's shard was there
    assert shop.content_of(catalogue) == shop.content_of(done[0])


def test_a_missing_task_alone_is_made_again(place, monkeypatch):
    _, make = place
    names = []
    original = AblationJob._ablate

    def noted(self, plan, task, name, folder):
        if name == "swapped" and names == ["same"]:
            names.append("cut")
            raise KeyboardInterrupt
        names.append(name)
        original(self, plan, task, name, folder)

    monkeypatch.setattr(AblationJob, "_ablate", noted)
    job = make(methods=("zero",))
    assert list(job.set_ups) == ["same", "swapped"]
    with pytest.raises(KeyboardInterrupt):
        job.run()
    assert make(methods=("zero",)).run().fresh
    assert names == ["same", "cut", "swapped"]


def test_controls_run_without_the_relations_heads(place, monkeypatch):
    # A copy of the task under another name is as easy; its heads are said to be others.
    catalogue, make = place
    monkeypatch.setattr("eval.ablation.heads.overlap", lambda own, other: 0.0)
    monkeypatch.setattr("eval.ablation.heads.DIFFERENCE", 2.0)
    make(methods=("zero",)).run()
    rows = shop.rows_of(
        catalogue,
        "SELECT relation, task, n_ablated, accuracy FROM ablations WHERE heads = 'control' ORDER BY n_ablated",
    )
    ((n, base, after, read),) = shop.rows_of(
        catalogue,
        "SELECT n_controls, control_base, control_accuracy, n_read FROM ablation_areas WHERE relation = 'same'",
    )
    assert [row[:3] for row in rows] == [("same", "swapped", 0), ("same", "swapped", read)]
    assert (n, base, after) == (1, rows[0][3], rows[1][3])


def test_a_quick_run_hides_no_whole_one(done, scored, tmp_path):
    catalogue = tmp_path / "heads.duckdb"
    catalogue.write_bytes(done[0].read_bytes())
    job = done[1]
    before = shop.rows_of(catalogue, "SELECT * FROM ablation_current ORDER BY relation, method")
    quick = replace(job.options, methods=("zero",), strongest=1)  # as many prompts, and newer
    report = AblationJob(job.model, {}, catalogue, quick).run()
    assert shop.rows_of(
        catalogue, "SELECT relation FROM ablation_areas WHERE run_id = ?", [report.run_id]
    ) == [("same",)]
    assert shop.rows_of(catalogue, "SELECT * FROM ablation_current ORDER BY relation, method") == before
    whole = AblationJob(job.model, {}, catalogue, replace(job.options, seed=5)).run()
    assert shop.rows_of(catalogue, "SELECT DISTINCT run_id FROM ablation_current") == [(whole.run_id,)]


def test_sources_that_the_text_answers_or_that_are_excluded_are_left_out(scored, place):
    model, relations, _ = scored
    _, make = place
    same = next(one for one in relations if one.name == "same")
    word = same.pairs[3][0]
    ids = [model.vocabulary.word_id(source) for source, _ in same.pairs]
    whole = make(pairs=N).set_ups["same"]
    assert whole.relation.sources.tolist() == ids
    shown = make(pairs=N, texts=TEXTS | {"same": f" {word}-> {word}; <X>"}).set_ups["same"]
    assert set(ids) - set(shown.relation.sources.tolist()) == {ids[3]}
    fewer = make(pairs=N, excluded={"special": ids[:2]}).set_ups["same"]
    assert set(ids) - set(fewer.relation.sources.tolist()) == set(ids[:2])
    assert make(excluded={"special": ids[:5]}).left_out["same"] == "29 pairs, 30 are needed"


def test_without_any_task_there_is_one_sentence(place):
    catalogue, make = place
    before = shop.content_of(catalogue)
    with pytest.raises(InputError, match=r"No relation can be ablated on tiny \(few: 9 pairs"):
        make(texts={"few": "a <X>"}).run()
    assert shop.content_of(catalogue) == before
    with Catalogue.open(catalogue) as opened:
        assert opened.query("SELECT count(*) FROM ablations").rows == [(0,)]
