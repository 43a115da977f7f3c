"""The work of a run: its plan, its shards, projections, drafts and verdicts, then one ingest."""
