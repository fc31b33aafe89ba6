"""Run folders, and the ledger of all runs.

The modules:

    folder        the files of a run, and the environment that a result depends on
    ledger        one row per run, in a database
    database      SQLite, or PostgreSQL for several hosts
    process_lock  the process that runs a training, and whether it has died
"""
