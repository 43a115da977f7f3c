"""The embedded drafter `rules`: executable operations, tested on rows that the draft did not see."""
