"""The embedded drafter: a library of executable operations, graded on rows it has not seen."""
