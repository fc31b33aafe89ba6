"""Tasks of the training engine: classification and noise identification."""
