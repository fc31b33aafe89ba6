"""Identification of the noise in a picture, and of the shipped models that were trained for it."""
