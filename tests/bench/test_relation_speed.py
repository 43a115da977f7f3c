"""The benchmark of relation scores measures both ways on a real model."""

import json

import pytest
import typer
from typer.testing import CliRunner

from describe.cli import bench
from describe.errors import InputError
from describe.subject import load_subject
from eval.bench.relation_speed import growth_picture, measure, relations_of

app = typer.Typer()
bench.register(app)


def test_both_ways_are_timed_on_the_same_pairs():
    model = load_subject("smollm2")
    relations = relations_of(model)[:3]
    speed = measure(model, relations, naive_heads=1)
    assert speed.relations == 3 and speed.pairs == sum(len(one.sources) for one in relations)
    assert speed.ours > 0 and speed.naive > 0 and speed.heads_timed == (9, 1)


def test_the_growth_is_drawn():
    growth = [{"heads": 9, "pairs": 100, "seconds": 1.0}, {"heads": 18, "pairs": 100, "seconds": 2.0}]
    assert growth_picture(growth).startswith("<?xml")


def test_the_command_measures_relations(tmp_path, monkeypatch):
    monkeypatch.setattr("eval.bench.relation_speed.relations_of", lambda model: relations_of(model)[:2])
    output = tmp_path / "bench.json"
    arguments = ["smollm2", "--part", "relations", "--quick", "--quiet", "--json", str(output)]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
    figures = json.loads(output.read_text())["relations"]
    assert figures["relations"] == 2 and figures["ratio"] == figures["naive"] / figures["ours"]
    assert "times faster" in result.output


def test_a_plot_needs_the_growth_to_be_measured(tmp_path):
    arguments = ["--part", "salient", "--plot", str(tmp_path / "x.svg")]
    with pytest.raises(InputError, match="--part relations"):
        CliRunner().invoke(app, arguments, catch_exceptions=False)
