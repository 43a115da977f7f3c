"""The work of a run: projections, drafts and verdicts as shards under content keys, then one ingest."""
