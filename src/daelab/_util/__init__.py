"""Helpers that know nothing of images: files, configuration tables, hardware, distributed processes."""
