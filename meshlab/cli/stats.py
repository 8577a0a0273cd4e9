"""``meshlab stats``: what each user's log holds."""

from __future__ import annotations

import click

from meshlab.cli.findings import say_damage
from meshlab.cli.output import Settings, finish, format_option, write_rows
from meshlab.dialects import OPS
from meshlab.wal.lines import DIALECTS

COLUMNS = (
    "uid",
    "days",
    "events",
    "bytes",
    "rejects",
    *OPS,
    *(f"in {name}" for name in DIALECTS),
    "first_day",
    "last_day",
)


@click.command("stats")
@click.argument("uids", metavar="[UID]...", nargs=-1)
@format_option
@click.pass_obj
def command(settings: Settings, uids: tuple[str, ...], fmt: str) -> None:
    """Count what each log holds.

    Without UIDs all users are counted.  Exit code 2: there is damage, more than a torn
    tail.
    """
    store = settings.open()
    rows = [{"uid": uid, **store[uid].stats()} for uid in uids or store.users()]
    write_rows(rows, fmt, names=COLUMNS if fmt == "table" else None)
    damage = sum(row["damage"] for row in rows)
    say_damage(damage)
    finish(damage=bool(damage))
