"""Is it true, is it plausible: benchmarks and studies over what `describe` makes."""
