"""Architectures as data: the fields of each kind of network, its layer table and its presets."""
