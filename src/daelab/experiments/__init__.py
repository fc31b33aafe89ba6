"""Experiments over many runs: search, comparison, leaderboard, the paper's reproduction, reports."""
