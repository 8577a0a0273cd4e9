"""``meshlab notebooks run``: a notebook of the course as a page."""

from __future__ import annotations

import ast
import os
from pathlib import Path
from typing import Any

import click

from meshlab.cli.notebook import render_notebook
from meshlab.cli.output import Settings, flush, say
from meshlab.cli.sample import repository_folder
from meshlab.errors import NotFound

STORE = "store"
"""The parameter that is a path, and relative to where the command was given."""


@click.group("notebooks")
def command() -> None:
    """Run the notebooks of the course.

    \b
      meshlab notebooks run 01_replay --out pages
    """


@command.command("run")
@click.argument("name")
@click.option(
    "-p", "parameters", metavar="NAME=VALUE", multiple=True, help="Set a parameter of the notebook (may be repeated)."
)
@click.option(
    "--out",
    metavar="DIR",
    type=click.Path(path_type=Path),
    default=Path(),
    show_default="here",
    help="Where the page goes.",
)
@click.pass_obj
def run(settings: Settings, name: str, parameters: tuple[str, ...], out: Path) -> None:
    """Run the notebook NAME without a screen and write it as HTML, its first figure as PNG.

    NAME is one that comes with meshlab, as 01_replay, or the path of any other.  Values
    are Python literals, or else text.  The notebook itself is not changed.

    \b
      meshlab notebooks run 02_time_travel -p store=my_store -p retain=7 --out pages
    """
    source = _notebook(name)
    given = dict(_parameter(text) for text in parameters)
    if len(given) < len(parameters):
        raise click.UsageError("a parameter is given twice")
    say(f"running {source.name}")
    store = Path(settings.store) if settings.store else None
    for path in filter(None, render_notebook(source, out, store=store, parameters=given)):
        click.echo(path)
    flush()


def _notebook(name: str) -> Path:
    """The path of a notebook.  Raises ``NotFound`` with those there are."""
    if name.endswith(".ipynb"):
        path = Path(name)
        if not path.is_file():
            raise NotFound(f"{name} is no file", hint="give the name of a notebook of the course, or a path")
        return path
    folder = repository_folder("notebooks")
    known = {path.stem: path for path in sorted(folder.glob("*.ipynb"))}
    if name not in known:
        raise NotFound(f"there is no notebook {name!r}", hint=f"choose from {', '.join(known)}")
    return known[name]


def _parameter(text: str) -> tuple[str, Any]:
    name, equals, value = text.partition("=")
    if not equals or not name.isidentifier():
        raise click.BadParameter(f"{text!r} is not of the form NAME=VALUE", param_hint="'-p'")
    try:
        literal = ast.literal_eval(value)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        literal = value
    if name == STORE:
        if not literal or not isinstance(literal, str):
            raise click.BadParameter(f"{text!r} names no store", param_hint="'-p'")
        return name, os.path.abspath(literal)
    if not _can_be_written(literal):
        raise click.BadParameter(f"the value of {name} is too large for a notebook", param_hint="'-p'")
    return name, literal


def _can_be_written(literal: object) -> bool:
    """Whether a notebook can hold a value as it is typed."""
    try:
        ast.literal_eval(repr(literal))
    except ValueError:  # of infinity, and of numbers with thousands of digits
        return False
    return True
