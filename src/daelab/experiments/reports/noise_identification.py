"""The scores of a trained noise identifier on held-out pictures, as tables for docs/results.md."""

from __future__ import annotations

from daelab.denoising.noise_identification.families import FAMILIES
from daelab.denoising.noise_identification.network import SURE, TARGETS, NoiseIdentifier, load_noise_identifier
from daelab.experiments.reports.table import Table


def make_identification_tables(inspector: NoiseIdentifier | None = None) -> list[Table]:
    """Return the table of scores by data set, and the confusion table over all data sets.

    Args:
        inspector: The noise identifier. Default: the shipped one.

    Raises:
        FileNotFoundError: The shipped noise identifier is missing.
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
    columns = ["held-out data", "pictures", "accuracy", f"accuracy if at least {SURE:.0%} sure", "share of these"]
    errors = [f"error in {target}" for target in TARGETS]
    note = (
        "Each picture has noise of a random family at random levels. The errors are mean absolute errors; those of "
        "level and offset are for a range of [0, 1]."
    )
    return [Table("Noise identification on held-out pictures", [*columns, *errors], rows, note), _confusion(inspector)]


def _confusion(inspector: NoiseIdentifier | None) -> Table:
    tests = (inspector or load_noise_identifier()).card["test"].values()
    total = [
        [sum(test["confusion"][row][column] for test in tests) for column in range(len(FAMILIES))]
        for row in range(len(FAMILIES))
    ]
    rows = [[name, *counts] for name, counts in zip(FAMILIES, total, strict=True)]
    note = (
        f"All data sets together, {sum(map(sum, total)):,} pictures. Rows are the true families, columns the "
        "identified ones."
    )
    return Table("Confusion of the noise families", ["", *FAMILIES], rows, note)
