"""Observers of a training: the run's record and the experiment trackers."""
