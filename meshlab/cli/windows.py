"""``meshlab windows``: which moments can be restored."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from typing import Any

import click

from meshlab.cli.jobs import finish_run, fleet, jobs_option, say_failed, workers
from meshlab.cli.output import Row, Settings, format_option, say, write_rows

COLUMNS = ("uid", "start", "end", "source", "generations", "hole_before", "hole_after")


@click.command("windows")
@click.argument("uids", metavar="[UID]...", nargs=-1)
@jobs_option
@format_option
@click.pass_obj
def command(settings: Settings, uids: tuple[str, ...], jobs: int, dask: str | None, fmt: str) -> None:
    """Show from when to when the memories of UIDs (of all users) can be restored.

    One row per interval, oldest first; both ends are included.  An interval without
    start reaches back to the beginning of the log, one without end to now.  Below stands
    why there is a hole between two.

    \b
      meshlab windows ann
      meshlab replay ann --at 2025-07-07T12:00:00Z
    """
    with workers(jobs, dask) as hands:
        ships = fleet(settings, hands)
        if ships is not None:
            run = ships.windows(uids or None)
            _write(run.table("windows").to_pylist(), fmt)
            say_failed(run)
            finish_run(run, damage=False)
    store = settings.open()
    found = [(uid, window) for uid in uids or store.users() for window in store[uid].windows()]
    _write([{"uid": uid, **window._asdict()} for uid, window in found], fmt)


def _write(rows: Sequence[Row], fmt: str) -> None:
    if fmt == "table":
        write_rows([_told(row) for row in rows], fmt, names=_columns(rows), limit=len(rows) or 1)
    else:
        write_rows(rows, fmt, names=COLUMNS)
    for uid, intervals in groupby(rows, key=lambda row: row["uid"]):
        *_, last = told = list(intervals)
        for row in told:
            if hole := row["hole_before"]:
                say(f"{uid}: not restorable before {_time(row['start'])}: {hole}")
        if last["end"] is not None:
            say(f"{uid}: not restorable after {_time(last['end'])}: {last['hole_after']}")


def _columns(rows: Sequence[Row]) -> list[str]:
    """Reasons are told below the table, where they are not cut."""
    return [name for name in COLUMNS if not name.startswith("hole")] if rows else list(COLUMNS)


def _told(row: Row) -> Row:
    generations = row["generations"]
    checkpoints = f"{generations[0]} to {generations[-1]}" if len(generations) > 1 else ", ".join(map(str, generations))
    return {
        **row,
        "start": _time(row["start"]) if row["start"] else "(the beginning)",
        "end": _time(row["end"]) if row["end"] else "(now)",
        "generations": checkpoints,
    }


def _time(moment: Any) -> str:
    return moment.isoformat().replace("+00:00", "Z") if moment is not None else "the beginning"
