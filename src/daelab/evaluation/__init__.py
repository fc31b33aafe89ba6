"""Scores of denoised images: metrics, confidence intervals, and macro F1 by classifiers."""
