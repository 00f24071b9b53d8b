"""Comparisons with transformers, which ``make test`` does without: it is large."""
