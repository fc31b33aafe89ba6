"""The reproduction of the paper: its tables and figures beside daelab's own measurements.

Modules:

    published     the figures of the paper, as data
    measurements  the request of a reproduction, and all that it measured
    measure       the scores of models, and the seconds per epoch
    comparisons   the paper's decisive comparisons, repeated with short trainings
    checks        the tolerances of the reproduction
    tables        the tables of the report
    sections      the sections of the report, with their figures
    reproduce     `reproduce_paper`, which does all of it
"""
