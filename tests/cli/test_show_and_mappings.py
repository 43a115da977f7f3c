"""`describe show` and `describe mappings`: what a user reads, what a script reads, and tokens that mean harm."""

import json
import shutil

import pytest
from jobs_tiny_model import HOSTILE, HOSTILE_HEAD
from jobs_workshop import rows_of

HARMFUL = HOSTILE_HEAD  # the head that reads the hostile tokens
HEAD = f"L{HARMFUL[0]}H{HARMFUL[1]}"


@pytest.fixture
def work(undisturbed, tmp_path):
    shutil.copy(undisturbed.catalogue, tmp_path / "heads.duckdb")
    return tmp_path


def is_tame(text):
    """Whether nothing in a text could move a cursor, change a colour or turn the reading direction."""
    return all(line.isprintable() for line in text.split("\n"))


def test_show_prints_a_card(workshop, work):
    found = workshop.call("show", "tiny", "l1h1", cwd=work)  # a head is found however it is spelt
    assert found.code == 0, found.stderr
    lines = found.stdout.splitlines()
    assert lines[0] == "L1H1 of tiny: described"
    assert "Writes the very token it reads" in lines[1]
    assert any(line.startswith("Promotes (12 of 60 ") for line in lines)
    assert any(line.startswith("Suppresses (12 of 60 ") for line in lines)
    assert sum("→" in line for line in lines) == 24
    short = workshop.call("show", workshop.model, "L1H1", "--rows", "2", cwd=work)  # as `run` was given it
    assert sum("→" in line for line in short.stdout.splitlines()) == 4


def test_show_json_is_what_the_catalogue_holds(workshop, work):
    found = workshop.call("show", "tiny", HEAD, "--json", cwd=work)
    card = json.loads(found.stdout)
    assert card["head"]["head_id"] == HEAD and card["head"]["status"] == "unclear"
    stored = rows_of(
        work / "heads.duckdb",
        "SELECT DISTINCT source_rank, source_token FROM mappings WHERE (layer, head) = (?, ?) "
        "AND direction = 'promote' ORDER BY 1",
        HARMFUL,
    )
    shown = [row["source_token"] for row in card["mappings"] if row["direction"] == "promote"]
    assert shown == [token for _, token in stored] and len(shown) == 60
    assert all(len(row["targets"]) == 10 for row in card["mappings"])
    assert {row["direction"] for row in card["mappings"]} == {"promote", "suppress"}
    assert card["descriptions"] and card["clusters"]


def test_hostile_tokens_are_intact_in_the_catalogue_and_escaped_on_the_terminal(workshop, work):
    stored = {
        token
        for (token,) in rows_of(
            work / "heads.duckdb",
            "SELECT DISTINCT source_token FROM mappings WHERE (layer, head) = (?, ?)",
            HARMFUL,
        )
    }
    assert set(HOSTILE) <= stored
    shown = [
        workshop.call("show", "tiny", HEAD, "--rows", "60", cwd=work).stdout,
        workshop.call("mappings", workshop.model, HEAD, cwd=work).stdout,
        workshop.call(
            "sql", "SELECT DISTINCT source_token FROM mappings", "--limit", 10_000, cwd=work
        ).stdout,
    ]
    for text in shown:
        assert is_tame(text)
        assert "<script>alert(1)</script>" in text and "DROP TABLE" in text and "long" * 250 in text
        assert "\\x1b[31mred" in text or "\\u001b[31mred" in text
        assert "rtl\\u202edaer" in text
    for text in shown[:2]:
        assert '"new\\nline"' in text and '"q\\"uo\'te"' in text


def test_what_show_does_not_know_is_one_sentence(workshop, work, tmp_path):
    for args, code, word in (
        (("tiny", "L9H9"), 2, "no head L9H9 of 'tiny'"),
        (("gpt2", "L0H0"), 2, "holds tiny and not 'gpt2'"),
        (("tiny", "head5"), 2, "L5H9"),
        (("tiny", "L0H0", "--catalogue", "none.duckdb"), 1, "none.duckdb"),
    ):
        found = workshop.call("show", *args, cwd=work)
        assert found.code == code and found.stdout == ""
        assert word in found.sentence()
    assert not (work / "none.duckdb").exists()


def test_mappings_print_what_the_run_stored(workshop, work):
    found = workshop.call("mappings", workshop.model, "L1H1", "L0H2", cwd=work)
    assert found.code == 0 and found.stderr == ""
    lines = found.stdout.splitlines()
    titles = [line for line in lines if not line.startswith(" ")]
    assert titles == ["L0H2 promotes", "L0H2 suppresses", "L1H1 promotes", "L1H1 suppresses"]
    assert len(lines) == 4 * 61
    assert not (work / "heads.duckdb.runs").exists()


@pytest.mark.parametrize("preset", ["default", "paper"])
def test_mappings_json_has_the_format_that_scripts_rely_on(workshop, work, tmp_path, preset):
    options = ("--preset", preset, "--salient", 7, "--targets", 3)
    found = workshop.call("mappings", workshop.model, "all", *options, "--json", "out.json", cwd=work)
    assert found.code == 0, found.stderr
    rows = json.loads((work / "out.json").read_text())
    assert len(rows) == 12 * 2 * 7
    for row in rows:
        kinds = {name: type(value) for name, value in row.items()}
        assert kinds == {
            "layer": int,
            "head": int,
            "direction": str,
            "source_rank": int,
            "source_id": int,
            "source_token": str,
            "saliency": float,
            "targets": list,
        }
        assert [set(target) for target in row["targets"]] == [{"id", "token", "logit"}] * 3
    order = [(row["layer"], row["head"], row["direction"], row["source_rank"]) for row in rows]
    assert sorted(set(order)) == sorted(order) and {rank for *_, rank in order} == set(range(7))
    if preset == "default":
        stored = rows_of(
            work / "heads.duckdb",
            "SELECT source_id, list(target_id ORDER BY target_rank) FROM mappings WHERE (layer, head) = (1, 1) "
            "AND direction = 'promote' AND source_rank < 7 AND target_rank < 3 GROUP BY source_id, source_rank "
            "ORDER BY source_rank",
        )
        own = [row for row in rows if (row["layer"], row["head"], row["direction"]) == (1, 1, "promote")]
        assert [(row["source_id"], [t["id"] for t in row["targets"]]) for row in own] == stored


def test_mappings_that_cannot_be_written_leave_no_file(workshop, tmp_path):
    found = workshop.call("mappings", workshop.model, "L0H0", "--json", "no/such/out.json", cwd=tmp_path)
    assert found.code == 2 and "no/such/out.json" in found.sentence()
    assert list(tmp_path.iterdir()) == []
    for heads, word in ((["L7H0"], "layers 0 to 2"), (["all", "L0H0"], "not a head"), (["5"], "not a head")):
        found = workshop.call("mappings", workshop.model, *heads, cwd=tmp_path)
        assert found.code == 2 and word in found.sentence()
