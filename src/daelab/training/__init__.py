"""Recipes, the training engine and its tasks."""
