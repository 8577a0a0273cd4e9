"""Figures as files: ``--plot``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from meshlab.cli.output import say
from meshlab.errors import storage_errors

SUFFIXES = (".png", ".svg", ".pdf")


def _check(context: click.Context, parameter: click.Parameter, value: Path | None) -> Path | None:
    if value is not None and value.suffix.lower() not in SUFFIXES:
        raise click.BadParameter(f"{value} is no name of a figure: end it in {', '.join(SUFFIXES)}")
    return value


plot_option = click.option(
    "--plot",
    type=click.Path(path_type=Path, dir_okay=False),
    callback=_check,
    help="Write a figure too: png, svg or pdf.",
)
"""Give a command ``--plot``."""


def write_plot(result: Any, path: Path | None) -> None:
    """Write the figure of a result, if one is wanted."""
    if path is None:
        return
    plot = result.plot()
    with storage_errors("write", path):
        plot.save(path)
    say(f"{path}: {plot.caption}")
