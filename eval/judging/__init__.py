"""Is a description plausible, and does it tell the head's own rows from others? Graded on rows that drafting never saw."""
