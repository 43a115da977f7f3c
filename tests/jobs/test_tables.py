"""Mappings survive the way into Parquet and back, whatever the tokens are."""

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from describe.jobs.tables import CLUSTERS, MAPPINGS, read_mappings, write_mappings, write_table
from describe.records import DIRECTIONS, HeadId, HeadMappings

TEXTS = st.lists(st.text(st.characters(exclude_categories=["Cs"])), min_size=1, max_size=6)


def drawn(generator, head, direction, shape, n_vocab, contrastive, standardised):
    k, n = shape
    floats = [generator.standard_normal(size).astype(np.float32) for size in (k, k, (k, n), (k, n))]
    return HeadMappings(
        head=head,
        direction=direction,
        source_ids=generator.integers(n_vocab, size=k),
        saliency=floats[0],
        contrast=floats[1] if contrastive else None,
        target_ids=generator.integers(n_vocab, size=shape),
        logits=floats[2],
        z=floats[3] if standardised else None,
        heldout=generator.random(k) < 0.5,
    )


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    TEXTS,
    st.tuples(st.integers(1, 7), st.integers(1, 4)),
    st.booleans(),
    st.booleans(),
    st.integers(1, 4),
    st.integers(0, 2**32 - 1),
)
def test_written_and_read_back_is_the_same(tmp_path, texts, shape, contrastive, standardised, n_heads, seed):
    generator = np.random.default_rng(seed)
    given = [
        drawn(generator, HeadId(3, head), direction, shape, len(texts), contrastive, standardised)
        for head in range(n_heads)
        for direction in DIRECTIONS
    ]
    path = tmp_path / "mappings.parquet"
    write_mappings(path, given, texts, "default")
    found = read_mappings(path)
    assert len(found) == len(given)
    for one, other in zip(given, found, strict=True):
        assert (one.head, one.direction) == (other.head, other.direction)
        for name in ("source_ids", "saliency", "contrast", "target_ids", "logits", "z", "heldout"):
            expected, got = getattr(one, name), getattr(other, name)
            assert (expected is None) == (got is None)
            if expected is not None:
                np.testing.assert_array_equal(expected, got)
    table = pq.read_table(path)
    assert table.schema.equals(MAPPINGS)
    assert table.column("source_token").to_pylist() == [
        texts[i] for i in table.column("source_id").to_pylist()
    ]
    assert table.column("target_token").to_pylist() == [
        texts[i] for i in table.column("target_id").to_pylist()
    ]


def test_no_rows_are_a_table_all_the_same(tmp_path):
    write_table(tmp_path / "clusters.parquet", [], CLUSTERS)
    found = pq.read_table(tmp_path / "clusters.parquet")
    assert len(found) == 0 and found.schema.equals(CLUSTERS)


def test_two_ways_of_writing_the_same_mappings_are_the_same_bytes(tmp_path):
    generator = np.random.default_rng(0)
    one = drawn(generator, HeadId(0, 0), "promote", (4, 2), 3, True, False)
    for name in ("a", "b"):
        write_mappings(tmp_path / name, iter([one]), ["x", "y", "z"], "paper")
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    with pytest.raises(IndexError):
        write_mappings(tmp_path / "c", [one], ["x"], "paper")
