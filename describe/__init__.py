"""Weights in, rows out: what every attention head of a language model does."""

__version__ = "0.1.0"
