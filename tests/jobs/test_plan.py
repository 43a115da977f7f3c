"""A run's identity changes with all that its rows depend on, and with nothing else."""

import dataclasses

import pytest

from describe.clusters import ClusterSettings
from describe.drafting.llm import DraftSettings
from describe.drafting.rules.evidence import GradingSettings
from describe.jobs import plan
from describe.jobs.plan import RunOptions, RunPlan
from describe.records import HeadId
from describe.settings import PRESETS
from describe.subject import load_subject


@pytest.fixture(scope="module")
def model(workshop):
    return load_subject(str(workshop.model))


@pytest.fixture
def options(model):
    return RunOptions(PRESETS["default"], tuple(model.shape.heads))


def test_every_option_but_the_device_is_part_of_the_identity(model, options):
    known = RunPlan(model, {}, options).run_id
    assert known == RunPlan(load_subject(model.checkpoint.folder.as_posix()), {}, options).run_id
    assert known == RunPlan(model, {}, dataclasses.replace(options, device="cuda:1")).run_id
    changes = {
        "settings": dataclasses.replace(options.settings, salient=31),
        "heads": options.heads[1:],
        "grading": dataclasses.replace(GradingSettings(), alpha=0.01),
        "clusters": dataclasses.replace(ClusterSettings(), min_size=6),
        "llm": DraftSettings("some-model", "http://127.0.0.1:1/v1"),
        "seed": 1,
    }
    assert set(changes) | {"device"} == {part.name for part in dataclasses.fields(RunOptions)}
    ids = {
        RunPlan(model, {}, dataclasses.replace(options, **{name: value})).run_id
        for name, value in changes.items()
    }
    assert len(ids | {known}) == len(changes) + 1


def test_what_a_plan_covers(model, options):
    plan = RunPlan(model, {"special": [0]}, options)
    assert plan.whole and plan.layers == [0, 1, 2] and plan.left_out == {"special": [0]}
    part = dataclasses.replace(options, heads=(HeadId(1, 2), HeadId(2, 0)), settings=PRESETS["paper"])
    plan = RunPlan(model, {"special": [0]}, part)
    assert not plan.whole and plan.layers == [1, 2] and plan.left_out == {}


def test_who_chooses_among_drafts_and_how_is_part_of_the_identity(model, options):
    alone = DraftSettings("some-model", "http://127.0.0.1:1/v1", candidates=3)
    ids = {
        RunPlan(model, {}, dataclasses.replace(options, llm=dataclasses.replace(alone, chooser=one))).run_id
        for one in (None, "cosine", "judge-1", "judge-2")
    }
    assert len(ids) == 4


@pytest.mark.parametrize("name", ["draft", "repair", "detect"])
def test_another_wording_of_a_prompt_is_another_run(model, options, monkeypatch, name):
    llm = DraftSettings("some-model", "http://127.0.0.1:1/v1", candidates=2, chooser="judge-1")
    asked = dataclasses.replace(options, llm=llm)
    before, load = RunPlan(model, {}, asked).run_id, plan.load
    reworded = dataclasses.replace(load(name), digest="other")
    monkeypatch.setattr(plan, "load", lambda wanted: reworded if wanted == name else load(wanted))
    assert RunPlan(model, {}, asked).run_id != before
    assert RunPlan(model, {}, options).run_id == RunPlan(model, {}, dataclasses.replace(options)).run_id
