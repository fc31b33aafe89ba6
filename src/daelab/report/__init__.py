"""Runs and tables -> figures and one HTML page. Nothing here trains or evaluates.

Figures are PNG or SVG by suffix and the same bytes for the same input; an SVG follows the
reader's light or dark setting. A page is one file that asks the network for nothing.

    style.py    palette, sizes, `save_figure`: how every figure looks and is written
    charts.py   numbers -> figures: class balance, training curves, confusion matrices
    log.py      a log of many runs -> one figure
    search.py   many runs -> figures: lines over their fields, which fields mattered
    pictures.py pictures -> figures: noise with its distributions, strips of samples
    table.py    `Table`: one table as page, CSV and Markdown
    page.py     `run_page`, and `write_page` for anything made of sections
    run.py      `write_run`: a run's figures and page, from its folder
"""

from daelab.report.charts import class_balance_figure, confusion_figure, curves_figure, pareto_figure, trade_figure
from daelab.report.log import LoggedTest, log_figure
from daelab.report.page import Section, run_page, slug, write_markdown, write_page
from daelab.report.pictures import noise_figure, samples_figure, strips_figure
from daelab.report.run import write_run
from daelab.report.search import importance_figure, parallel_figure
from daelab.report.style import CHANNELS, PALETTE, available, save_figure
from daelab.report.table import Table

__all__ = [
    "CHANNELS",
    "PALETTE",
    "LoggedTest",
    "Section",
    "Table",
    "available",
    "class_balance_figure",
    "confusion_figure",
    "curves_figure",
    "importance_figure",
    "log_figure",
    "noise_figure",
    "parallel_figure",
    "pareto_figure",
    "run_page",
    "samples_figure",
    "save_figure",
    "slug",
    "strips_figure",
    "trade_figure",
    "write_markdown",
    "write_page",
    "write_run",
]
