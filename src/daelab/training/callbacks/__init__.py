"""The observers of a training: its record, its progress and the experiment trackers."""
