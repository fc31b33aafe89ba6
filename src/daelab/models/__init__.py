"""Architectures as data, the networks built from them, and the files that hold their weights."""
