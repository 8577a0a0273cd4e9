"""``meshlab stats``: what each user's log holds."""

from __future__ import annotations

import click

from meshlab.cli.findings import say_damage
from meshlab.cli.jobs import finish_run, fleet, jobs_option, say_failed, workers
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
@jobs_option
@format_option
@click.pass_obj
def command(settings: Settings, uids: tuple[str, ...], jobs: int, dask: str | None, fmt: str) -> None:
    """Count what each log holds.

    Without UIDs all users are counted.  --store may also be the bucket that 'sync push'
    wrote.  Exit code 2: there is damage, more than a torn tail.

    \b
      meshlab stats
      meshlab stats ann --format json
    """
    with workers(jobs, dask) as hands:
        ships = fleet(settings, hands)
        if ships is not None:
            run = ships.stats(uids or None)
            told = run.to_arrow().filter(run.to_arrow()["ok"]).select(["uid", *run.job.figures.names])
            write_rows(told.to_pylist(), fmt, names=COLUMNS if fmt == "table" else None)
            say_damage(run.damage)
            say_failed(run)
            finish_run(run, damage=bool(run.damage))
    store = settings.open()
    rows = [{"uid": uid, **store[uid].stats()} for uid in uids or store.users()]
    write_rows(rows, fmt, names=COLUMNS if fmt == "table" else None)
    damage = sum(row["damage"] for row in rows)
    say_damage(damage)
    finish(damage=bool(damage))
