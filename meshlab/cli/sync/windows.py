"""``meshlab sync windows``: which moments the bucket alone can restore."""

from __future__ import annotations

from typing import Any

import click

from meshlab.cli.output import DAMAGE, Settings, flush, format_option, say, write_rows
from meshlab.cli.sync.options import opened, remote_option

COLUMNS = ("image", "start", "end", "source", "generations", "hole_before", "hole_after")


@click.command("windows")
@click.argument("uid")
@remote_option
@format_option
@click.pass_obj
def command(settings: Settings, uid: str, url: str, fmt: str) -> None:
    """Show from when to when UID can be restored from the bucket alone.

    One row per interval and image; both ends are included.  An interval without start
    reaches back to the beginning of the log.  Images from which nothing more can be
    restored than from newer ones are left out.

    \b
      meshlab sync windows --remote s3://backups/mesh ann
    """
    rows = [window._asdict() for window in opened(settings, url).windows(uid)]
    if fmt == "table":
        write_rows([_told(row) for row in rows], fmt, names=COLUMNS[:-2])
    else:
        write_rows(rows, fmt, names=COLUMNS)
    for row in rows:
        if row["hole_before"]:
            say(f"image {row['image'][:8]}: not restorable before {_time(row['start'])}: {row['hole_before']}")
        if row["hole_after"]:
            say(f"image {row['image'][:8]}: not restorable after {_time(row['end'])}: {row['hole_after']}")
    if not rows:
        say("no moment can be restored")
    flush()
    if not rows:
        raise click.exceptions.Exit(DAMAGE)


def _told(row: dict[str, Any]) -> dict[str, Any]:
    return {
        **row,
        "image": row["image"][:8],
        "start": _time(row["start"]) if row["start"] else "(the beginning)",
        "end": _time(row["end"]),
        "generations": ", ".join(map(str, row["generations"])),
    }


def _time(moment: Any) -> str:
    return moment.isoformat().replace("+00:00", "Z") if moment is not None else "the beginning"
