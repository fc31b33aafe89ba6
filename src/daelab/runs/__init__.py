"""Run folders, and the ledger of all runs.

The modules:

    folder        the files of a run, and the environment that a result depends on
    ledger        one row per run, in a database
    run_row       the ledger's row of a run that is trained
    database      SQLite, or PostgreSQL for several hosts
    process_lock  the process that runs a training, and the lock on its folder
"""
