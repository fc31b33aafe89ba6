"""inspect, and train-inspector."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from daelab.cli.console import bar, say, say_json, tell
from daelab.cli.options import DataRoot, Json
from daelab.errors import reason

if TYPE_CHECKING:
    from daelab.inspector import Inspection


def inspect(
    pictures: Annotated[list[str], typer.Argument(metavar="PICTURE...", help="Files, or photo:NAME.")],
    as_json: Json = False,
) -> None:
    """Say which noise is in a picture: family, level, gain and offset; and which shipped model fits.

    Beside it scikit-image's estimate of zero-mean noise, where that is installed.

    Example: daelab inspect noisy.png
    """
    from daelab import api

    found, broken = {}, {}
    for name in pictures:
        try:
            found[name] = api.inspect(name)
        except (ValueError, OSError) as error:
            if len(pictures) == 1:
                raise
            broken[name] = reason(error)
    if as_json:
        seen_json = [{"picture": name, **seen.to_dict()} for name, seen in found.items()]
        say_json(seen_json + [{"picture": name, "error": why} for name, why in broken.items()])
    else:
        _say_found(found)
    for why in broken.values():
        tell(f"daelab: {why}")
    if broken:
        raise typer.Exit(1)


def _say_found(found: dict[str, Inspection]) -> None:
    for name, seen in found.items():
        say(f"{name}: {seen}")
        if seen.sigma is not None:
            say(f"  scikit-image's estimate, were it zero-mean Gaussian noise: sigma {seen.sigma:.3f}")
        say(f"  {seen.advice}")
        if seen.choice:
            say(f"  daelab denoise {name}")


def train_inspector(
    save: Annotated[Path, typer.Option(metavar="FILE.safetensors", help="The file to write.")],
    data: Annotated[
        list[str] | None, typer.Option(help="Clean pictures; repeat for more. Else the bundled photographs.")
    ] = None,
    examples: Annotated[int | None, typer.Option(min=1, help="Noisy pictures to learn from.")] = None,
    seed: Annotated[int, typer.Option(min=0, help="The same seed gives the same inspector.")] = 0,
    data_root: DataRoot = None,
    as_json: Json = False,
) -> None:
    """Train the inspector: noise of every family is put on clean pictures, which gives the labels.

    Example: daelab train-inspector --data photos --data folder:pictures --save inspector.safetensors
    """
    from daelab import api, inspector

    with bar("noisy pictures") as progress:
        made = api.train_inspector(
            save, data or ("photos",), examples=examples, seed=seed, data_root=data_root, progress=progress
        )
    if as_json:
        say_json({"file": str(save), **made.card})
        return
    for table in inspector.results_tables(made):
        say(table.to_text())
        say()
    say(f"inspector -> {save}: {save.stat().st_size:,} bytes")
