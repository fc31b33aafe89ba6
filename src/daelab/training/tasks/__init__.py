"""The tasks that the engine trains: denoising, classification and noise identification."""
