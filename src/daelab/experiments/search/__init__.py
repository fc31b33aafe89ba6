"""Search of a space of recipes, on one computer or many. Needs Optuna (the extra 'search').

Modules:

    search        `run_search`: a search with one or several worker processes
    search_space  a search space: a recipe in which fields may be lists or ranges
    dimensions    the dimensions of a search space: choices and ranges
    goals         the tables of goals, samplers and pruners
    study         a study in a database that all workers share; study_records holds its records
    trials        the trials of a study, and the points that they belong to
    worker        a worker, which trains the trials of a study as runs
    storage       the connection of Optuna to the ledger's database
"""
