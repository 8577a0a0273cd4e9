"""``meshlab growth``: what the logs are full of, and why."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from meshlab.cli.figure import plot_option, write_plot
from meshlab.cli.findings import say_damage
from meshlab.cli.jobs import crew, finish_run, fleet, jobs_option, say_failed, workers
from meshlab.cli.output import (
    DAMAGE,
    ERROR,
    FINE,
    Settings,
    arrow_rows,
    finish,
    flush,
    format_option,
    say,
    say_error,
    write_rows,
)
from meshlab.cli.units import with_sizes
from meshlab.errors import MeshlabError
from meshlab.wal.paths import existing_user

KEYS = ("user", "day", "hour", "op", "dialect", "id", "field")
SHOWN = 20
"""Rows of a table by user or id unless --top is given; JSON and CSV have all."""


OF_DAYS = ("superseded_bytes", "duplicate_bytes", "left_bytes")
SIZES = ("bytes", *OF_DAYS, "freed_now_bytes", "freed_later_bytes")
MEASURED = ("write_amplification", "replay_seconds")
USER_COLUMNS = ("uid", *SIZES, *MEASURED)
"""Of the redundancy of each user, in a table."""


@click.command("growth")
@click.argument("uids", metavar="[UID]...", nargs=-1)
@click.option("--by", type=click.Choice(KEYS), default="op", show_default=True, help="What to put the bytes down to.")
@click.option("--top", metavar="N", type=click.IntRange(1), help="The N largest rows, and all others as one.")
@click.option("--changes", is_flag=True, help="When somebody's traffic jumped, whose, and in which op.")
@click.option("--redundancy", is_flag=True, help="What the memories no longer need, by user and day.")
@plot_option
@jobs_option
@format_option
@click.pass_obj
def command(
    settings: Settings,
    uids: tuple[str, ...],
    by: str,
    top: int | None,
    changes: bool,
    redundancy: bool,
    plot: Path | None,
    jobs: int,
    dask: str | None,
    fmt: str,
) -> None:
    """Show what the logs of UIDs (of all users) are full of.

    The bytes of all rows add up to the sizes of the files: rejects and blank lines are
    rows of their own.  What vacuum deleted stands beside them.  --by hour is the hour of
    day, UTC; --by field splits events into their fields, and the rest, (envelope).
    Exit code 2: there is damage in the logs.

    \b
      meshlab growth --by field
      meshlab growth ann --by day --plot days.png
      meshlab growth --changes
    """
    if changes and redundancy:
        raise click.UsageError("--changes and --redundancy exclude each other")
    if by in ONE_BY_ONE and not (changes or redundancy):
        with crew(jobs, dask) as pool:
            growth, failed = _one_by_one(settings.open(), uids, pool)
            _show(growth, by, top, plot, fmt, changes=False, redundancy=False)
        for uid, error in failed.items():
            say_error(f"{uid}: {error.message}", error.hint)
        flush()
        raise click.exceptions.Exit(ERROR if failed else DAMAGE if growth.damage else FINE)
    with workers(jobs, dask) as hands:
        ships = fleet(settings, hands)
        if ships is None:
            growth = settings.open().growth(uids or None)
            _show(growth, by, top, plot, fmt, changes=changes, redundancy=redundancy)
            finish(damage=bool(growth.damage))
        run = ships.growth(uids or None)
        told = _Wasted(run, ships.redundancy(run.sound)) if redundancy else run
        _show(told, by, top, plot, fmt, changes=changes, redundancy=redundancy)
        say_failed(run)
    finish_run(run, damage=bool(run.damage))


class _Wasted:
    """What the memories no longer need, of users whose damage another run has counted."""

    def __init__(self, run: Any, wasted: Any) -> None:
        self.damage = run.damage
        self.redundancy = wasted.redundancy


ONE_BY_ONE = ("id", "field")
"""Keys for which many small tables are too large to keep apart."""


def _one_by_one(store: Any, uids: tuple[str, ...], pool: Any) -> tuple[Any, dict[str, MeshlabError]]:
    """What is read of users, and what went wrong with each; with nobody beside, the first error ends the command."""
    if pool is None:
        return store.growth(uids or None), {}
    from meshlab.growth.growth import Growth
    from meshlab.timeline import log_of

    failed: dict[str, MeshlabError] = {}
    logs = []
    for uid in dict.fromkeys(uids or store.users()):
        try:
            logs.append(log_of(existing_user(store.path, uid), uid))
        except MeshlabError as error:
            failed[uid] = error
    return Growth(logs, executor=pool, failed=failed), failed


def _show(
    growth: Any, by: str, top: int | None, plot: Path | None, fmt: str, *, changes: bool, redundancy: bool
) -> None:
    if changes:
        result = growth.changes()
        _show_changes(result, fmt)
    elif redundancy:
        result = growth.redundancy()
        _show_redundancy(result, fmt)
    else:
        result = _attributed(growth, by, top, fmt)
    write_plot(result, plot)
    say_damage(growth.damage)


def _attributed(growth: Any, by: str, top: int | None, fmt: str) -> Any:
    """Write bytes by a key; returns what was written."""
    result = growth.by(by)
    if top is None and fmt == "table" and by in ("user", "id"):
        top = SHOWN
    shown = result if top is None else result.top(top)
    rows = [{by: row.pop("key"), **row} for row in arrow_rows(shown.to_arrow())]
    if fmt != "table":
        write_rows(rows, fmt, names=[by, *list(rows[0])[1:]] if rows else [by, "bytes", "events"])
        return shown
    gone = any(row["deleted_bytes"] for row in rows)
    names = [by, "bytes", "events", "share", "cumulative", *(["deleted_bytes", "deleted_events"] if gone else [])]
    told = [{**row, **{name: f"{row[name]:6.1%}" for name in ("share", "cumulative")}} for row in rows]
    write_rows(with_sizes(told, ["bytes", "deleted_bytes"]), fmt, names=names, limit=len(told) or 1)
    return shown


def _show_changes(result: Any, fmt: str) -> None:
    from meshlab.growth.changes import CHANGES_SCHEMA, sentence

    rows = list(arrow_rows(result.to_arrow()))
    if fmt == "table":
        for row in rows:
            click.echo(sentence(row))
        if not rows:
            say("no change found")
    else:
        write_rows(rows, fmt, names=CHANGES_SCHEMA.names)
    for note in result.notes:
        say(note)


def _by_user(result: Any) -> list[dict[str, Any]]:
    """The sums of each user's days, beside what is told of the user."""
    summed = result.table.group_by("uid").aggregate([(name, "sum") for name in OF_DAYS])
    sums = {row["uid"]: {name: row[f"{name}_sum"] for name in OF_DAYS} for row in summed.to_pylist()}
    rows = [{**user, **sums.get(user["uid"], {})} for user in arrow_rows(result.users)]
    return [{**row, **{name: row[name] and float(f"{row[name]:.2g}") for name in MEASURED}} for row in rows]


def _show_redundancy(result: Any, fmt: str) -> None:
    from meshlab.growth.redundancy import DAY_SCHEMA

    rows = list(arrow_rows(result.to_arrow()))
    if fmt == "table":
        users = _by_user(result)
        write_rows(with_sizes(users, SIZES), fmt, names=USER_COLUMNS, limit=len(users) or 1)
        say(repr(result).strip("<>"))
    else:
        write_rows(rows, fmt, names=DAY_SCHEMA.names)
    for note in result.notes:
        say(note)
