"""Reports: tables, figures, pages and Markdown files.

Modules:

    table                 a table as text, Markdown, CSV and HTML
    page                  the HTML page and the Markdown file of a report
    run                   the report of a run
    evaluation            tables of a model's scores
    ledger                tables of the ledger
    noise_identification  tables of the noise identifier's scores
    style                 the style of all figures, and their files
    charts                figures of numbers; log_chart and search_charts draw logs and searches
    images                figures of pictures
"""
