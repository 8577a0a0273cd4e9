"""``meshlab windows``: which moments can be restored."""

from __future__ import annotations

from typing import Any

import click

from meshlab.cli.output import Settings, format_option, say, write_rows

COLUMNS = ("start", "end", "source", "generations", "hole_before", "hole_after")


@click.command("windows")
@click.argument("uid")
@format_option
@click.pass_obj
def command(settings: Settings, uid: str, fmt: str) -> None:
    """Show from when to when the memories of UID can be restored.

    One row per interval, oldest first; both ends are included.  An interval without
    start reaches back to the beginning of the log, one without end to now.  Between two
    stands why there is a hole.

    \b
      meshlab windows ann
      meshlab replay ann --at 2025-07-07T12:00:00Z
    """
    rows = [window._asdict() for window in settings.open()[uid].windows()]
    if fmt == "table":
        write_rows([_told(row) for row in rows], fmt, names=_columns(rows))
    else:
        write_rows(rows, fmt, names=COLUMNS)
    for row in rows:
        if hole := row["hole_before"]:
            say(f"not restorable before {_time(row['start'])}: {hole}")
    if rows and rows[-1]["end"] is not None:
        say(f"not restorable after {_time(rows[-1]['end'])}: {rows[-1]['hole_after']}")


def _columns(rows: list[dict[str, Any]]) -> list[str]:
    """Reasons are told below the table, where they are not cut."""
    return [name for name in COLUMNS if not name.startswith("hole")] if rows else list(COLUMNS)


def _told(row: dict[str, Any]) -> dict[str, Any]:
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
