"""The store: one DuckDB file, its schema, ingest, read-only SQL, export; only this room imports duckdb."""

from describe.catalogue.catalogue import Catalogue
from describe.catalogue.contents import ContentDigest, digest
from describe.catalogue.export import export_catalogue
from describe.catalogue.lock import owner_lock
from describe.catalogue.query import (
    QueryRows,
    QueryStream,
    open_read_only,
    query_to_parquet,
    read_only_query,
    stream_query,
)
from describe.catalogue.relations import RelationRecord

__all__ = [
    "Catalogue",
    "ContentDigest",
    "QueryRows",
    "QueryStream",
    "RelationRecord",
    "digest",
    "export_catalogue",
    "open_read_only",
    "owner_lock",
    "query_to_parquet",
    "read_only_query",
    "stream_query",
]
