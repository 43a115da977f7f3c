"""`describe map` on the tiny model: the strongest pairs, and the targets of every source, against M itself."""

import pyarrow.parquet as pq
import torch

from describe.subject import load_subject

HEAD = (1, 2)


def whole_m(model):
    """M of the paper preset, in float64: MLP0(LN2(E)) W_V W_O U."""
    circuits = model.layer(HEAD[0])
    states = model.block0(want={"mlp0"}, device="cpu").mlp0.double()
    W_VO = circuits.W_V[circuits.kv_head(HEAD[1])].double() @ circuits.W_O[HEAD[1]].double()
    return states @ W_VO @ model.unembedding().double().T


def test_the_strongest_pairs_are_those_of_the_whole_matrix(workshop, tmp_path):
    found = workshop.call("map", workshop.model, "L1H2", "--preset", "paper", "--pairs", 25, cwd=tmp_path)
    assert found.code == 0 and "25 highest" in found.stderr
    logits = torch.tensor([float(line.split()[0]) for line in found.stdout.splitlines()], dtype=torch.float64)
    expected = whole_m(load_subject(str(workshop.model))).flatten().topk(25).values
    torch.testing.assert_close(logits, expected, rtol=0, atol=2e-3)


def test_every_source_has_its_targets(workshop, tmp_path):
    options = ("--preset", "paper", "--targets", 4, "--parquet", "all.parquet", "--quiet")
    found = workshop.call("map", workshop.model, "L1H2", *options, cwd=tmp_path)
    assert found.code == 0 and found.stdout == found.stderr == ""
    M = whole_m(load_subject(str(workshop.model)))
    table = pq.read_table(tmp_path / "all.parquet").to_pydict()
    assert len(table["source_id"]) == len(M) * 2 * 4
    for name, sign in (("promote", 1), ("suppress", -1)):
        ids = [
            t
            for t, direction in zip(table["target_id"], table["direction"], strict=True)
            if direction == name
        ]
        values = M.gather(1, torch.tensor(ids).view(len(M), 4))
        torch.testing.assert_close(values * sign, (M * sign).topk(4).values, rtol=1e-4, atol=1e-5)
    assert not list(tmp_path.glob(".*.part"))


def test_bad_input_is_one_sentence(workshop, tmp_path):
    for args, word in (
        (("L9H9",), "no head L9H9"),
        (("L1H2", "--parquet", tmp_path / "nowhere" / "x.parquet"), "cannot be written"),
    ):
        found = workshop.call("map", workshop.model, *args, "--quiet", cwd=tmp_path)
        assert found.code == 2 and word in found.sentence()
