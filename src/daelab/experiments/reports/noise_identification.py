"""What a trained inspector scored on pictures held out, as tables: for docs/results.md."""

from __future__ import annotations

from daelab.denoising.noise_identification.families import FAMILIES
from daelab.denoising.noise_identification.network import SURE, TARGETS, NoiseIdentifier, load_noise_identifier
from daelab.experiments.reports.table import Table


def make_identification_tables(inspector: NoiseIdentifier | None = None) -> list[Table]:
    """One table of scores by data set, and a confusion table over all; of the inspector that ships.

    Raises:
        FileNotFoundError: none ships with this installation.
    """
    tests = (inspector or load_noise_identifier()).card["test"]
    rows = [
        [
            name,
            f"{test['examples']:,}",
            f"{test['accuracy']:.1%}",
            f"{test['accuracy_where_sure']:.1%}",
            f"{test['share_sure']:.1%}",
            *(f"{test['mean_absolute_error'][target]:.3f}" for target in TARGETS),
        ]
        for name, test in tests.items()
    ]
    columns = ["held out of", "pictures", "right", f"right where {SURE:.0%} sure", "share of these"]
    errors = [f"error in {target}" for target in TARGETS]
    note = (
        "Each picture under noise of a random family, at random levels; mean absolute errors, in units of white "
        "(the gain: a ratio)."
    )
    return [Table("what the inspector gets right", [*columns, *errors], rows, note), _confusion(inspector)]


def _confusion(inspector: NoiseIdentifier | None) -> Table:
    tests = (inspector or load_noise_identifier()).card["test"].values()
    total = [
        [sum(test["confusion"][row][column] for test in tests) for column in range(len(FAMILIES))]
        for row in range(len(FAMILIES))
    ]
    rows = [[name, *counts] for name, counts in zip(FAMILIES, total, strict=True)]
    note = f"All sets together: {sum(map(sum, total)):,} pictures; rows: what it was, columns: what the inspector said."
    return Table("the inspector's confusion table", ["", *FAMILIES], rows, note)
