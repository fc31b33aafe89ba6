"""Reproduction of the paper: its tables and figures beside our own measurements."""
