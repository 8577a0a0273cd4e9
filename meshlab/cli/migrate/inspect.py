"""``meshlab migrate inspect``: what stands under a path."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from meshlab.cli.output import DAMAGE, FINE, Row, flush, format_option, say, write_json, write_rows
from meshlab.cli.units import with_sizes
from meshlab.wording import counted

USER_HELP = "The uid that the memories of SOURCE, one file, belong to."
USERS_HELP = "A CSV file of path,uid for many files; SOURCE is then left out."
COLUMNS = ("uid", "kind", "files", "bytes", "where")


@click.command("inspect")
@click.argument("source", required=False, type=click.Path(path_type=Path))
@click.option("--user", metavar="UID", help=USER_HELP)
@click.option("--users", metavar="MAP.csv", type=click.Path(path_type=Path), help=USERS_HELP)
@format_option
def command(source: Path | None, user: str | None, users: Path | None, fmt: str) -> None:
    """Say which users, in which layout, stand under SOURCE, and what nobody knows.

    Looks at names and at the beginnings of files; 'migrate plan' reads them.  Exit
    code 2: something is wrong.

    \b
      meshlab migrate inspect /srv/old
    """
    from meshlab.migrate import inspect

    source = given(source, user, users)
    found = inspect(source, user=user, users=users)
    rows = [_row(one) for one in found.sources]
    if fmt == "json":
        problems = {"problems": [p._asdict() for p in found.problems], "left": [p._asdict() for p in found.left]}
        write_json({"users": rows, **problems})
    elif rows or fmt == "csv" or not found.problems:
        write_rows(with_sizes(rows, ["bytes"]) if fmt == "table" else rows, fmt, names=COLUMNS, limit=len(rows))
    say_problems(found.problems, found.left)
    say(f"{counted(len(rows), 'user')} found")
    flush()
    raise click.exceptions.Exit(DAMAGE if found.problems else FINE)


def given(source: Path | None, user: str | None, users: Path | None) -> Path:
    """Where to look; a CSV file stands for itself."""
    if users is not None:
        if source is not None or user is not None:
            raise click.UsageError("--users stands alone: it names every file and its uid")
        return users
    if source is None:
        raise click.UsageError("name the SOURCE, or give --users MAP.csv")
    return source


def say_problems(problems: Any, left: Any) -> None:
    """What is wrong, and what is not taken, on stderr."""
    for problem in problems:
        say(f"problem: {problem.where}: {problem.what}" + (f" ({problem.hint})" if problem.hint else ""))
    for problem in left:
        say(f"not taken: {problem.where}: {problem.what}" + (f" ({problem.hint})" if problem.hint else ""))


def _row(source: Any) -> Row:
    sizes = [path.stat().st_size for path in source.paths]
    where = str(source.paths[0] if len(source.paths) == 1 else source.base)
    return {"uid": source.uid, "kind": source.kind, "files": len(sizes), "bytes": sum(sizes), "where": where}
