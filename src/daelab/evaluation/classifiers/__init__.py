"""Classifiers that score clean, noisy and denoised images by macro F1."""
