"""Experiments over many runs: search, comparison, leaderboard, the paper's reproduction, reports.

Modules:

    train            training from Python: a run with its ledger row and its report
    evaluate_model   evaluation of a model by name
    export_model     export of a model to ONNX
    explore          search and comparison from Python
    search/          search of a space of recipes
    comparison       runs compared by the fields in which they differ; comparison_page writes the page
    compared_runs    the runs and points of a comparison
    seed_range       the range of runs that differ by their seed alone
    fields           fields of recipes as dotted names and table cells
    leaderboard/     all models under the same noisy images
    paper/           the reproduction of the paper
    reports/         tables, figures and pages
"""
