"""Benchmarks and studies: each compares candidates in one run, on data made for it, and prints a table."""
