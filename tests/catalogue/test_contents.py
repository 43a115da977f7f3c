"""The digest sees every fact and nothing else."""

import random

import pytest

from describe.catalogue import Catalogue, digest, open_read_only


def stored(path, make, folder, run, rows):
    with Catalogue.open(path) as catalogue:
        catalogue.ingest_run(run, make.shards(folder, rows))
        return catalogue.digest()


def test_order_time_and_memory_do_not_count(make, tmp_path):
    rows = make.rows()
    first = stored(tmp_path / "a.duckdb", make, tmp_path / "a", make.run(seed=1, peak_memory_bytes=1), rows)
    shuffled = {table: random.Random(3).sample(some, len(some)) for table, some in rows.items()}
    later = make.run(
        "another", seed=1, started_at=make.run()["started_at"].replace(year=2030), peak_memory_bytes=2
    )
    second = stored(
        tmp_path / "b.duckdb", make, tmp_path / "b", later | {"stage_seconds": {"map": 3}}, shuffled
    )
    assert first == second
    with open_read_only(tmp_path / "b.duckdb") as con:
        assert digest(con) == second


CHANGES = {
    "heads": {"status": "pending"},
    "mappings": {"logit": 1.0000000000000002},
    "clusters": {"source_ids": [1, 0]},
    "descriptions": {"pattern_text": None},
    "excluded_tokens": {"token": "<pad> "},
}


@pytest.mark.parametrize("table", CHANGES)
def test_one_changed_value_counts_and_is_located(table, catalogue, make, tmp_path):
    rows = make.rows()
    rows["mappings"][0]["logit"] = 1.0
    catalogue.ingest_run(make.run(status="running"), make.shards(tmp_path / "a", rows))
    before = catalogue.digest("r1")
    rows[table][0] |= CHANGES[table]
    catalogue.ingest_run(make.run(status="running"), make.shards(tmp_path / "b", rows))
    after = catalogue.digest("r1")
    assert before.whole != after.whole
    changed = {name for name in before.tables if before.tables[name] != after.tables[name]}
    assert changed - {"runs"} == {table}  # runs counts its heads by status


def test_null_and_neighbours_are_kept_apart(catalogue):
    seen = set()
    for pair in (
        ("a", "bc"),
        ("ab", "c"),
        ("a", "b,c"),
        ("NULL", ""),
        ("", "NULL"),
        ('a","b', "c"),
        ("a", 'b","c'),
    ):
        catalogue.connection.execute("DELETE FROM relation_pairs")
        catalogue.connection.execute(
            "INSERT INTO relation_pairs (relation, source, target) VALUES ('r', ?, ?)", pair
        )
        seen.add(catalogue.digest().tables["relation_pairs"])
    assert len(seen) == 7
    lists = set()
    for texts in (["a, b"], ["a", "b"], [None], ["NULL"], [], None):
        catalogue.connection.execute("DELETE FROM heads")
        catalogue.connection.execute(
            "INSERT INTO heads BY NAME SELECT 'r' AS run_id, 'm' AS model, 0 AS layer, 0 AS head, "
            "'pending' AS status, ?::VARCHAR[] AS constant_promoted", [texts]
        )  # fmt: skip
        lists.add(catalogue.digest().tables["heads"])
    assert len(lists) == 6


def test_one_run_of_several(catalogue, make, tmp_path):
    shards = make.shards(tmp_path / "s")
    catalogue.ingest_run(make.run("a"), shards)
    alone = catalogue.digest("a")
    catalogue.ingest_run(make.run("b"), shards)
    assert catalogue.digest("a") == catalogue.digest("b") == alone
    assert catalogue.digest().whole != alone.whole
    assert "relations" in catalogue.digest().tables and "relations" not in alone.tables
