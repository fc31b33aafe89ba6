"""Run folders, and the ledger of all runs."""
