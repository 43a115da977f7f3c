"""One file a prompt, with `$name` variables; the digest of a prompt stands in every row that it made."""
