"""The benchmark of relation scores measures both ways on a real model."""

from describe.subject import load_subject
from eval.bench.relation_speed import Growth, measure, plot, relations_of


def test_both_ways_are_timed_on_the_same_pairs(tmp_path):
    model = load_subject("smollm2")
    relations = relations_of(model)[:3]
    speed = measure(model, relations, naive_heads=1)
    assert speed.relations == 3 and speed.pairs == sum(len(one.sources) for one in relations)
    assert speed.ours > 0 and speed.naive > 0 and speed.heads_timed == (9, 1)
    plot([Growth(9, 100, 1.0), Growth(18, 100, 2.0)], tmp_path / "growth.svg")
    assert (tmp_path / "growth.svg").read_text().startswith("<?xml")
