"""The leaderboard of all models on the test images of a data set, under the same noisy pixels.

Modules:

    boards   the boards: what the leaderboard of a data set measures, as data
    measure  `measure_leaderboard`: the scores and the speed of every model
    row      a row: a model with its cost and its scores; the lead of one over another
    cache    the cache of measured rows
    tables   the CSV records, the tables and the page; figures draws them
"""
