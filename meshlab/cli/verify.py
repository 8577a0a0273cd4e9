"""``meshlab verify``: is every byte of a log accounted for."""

from __future__ import annotations

from collections.abc import Sequence

import click

from meshlab.cli.findings import MAX_RAW, is_damage, reject_row
from meshlab.cli.jobs import finish_run, fleet, jobs_option, say_failed, workers
from meshlab.cli.output import Row, Settings, finish, format_option, say, write_json, write_rows
from meshlab.wording import counted


@click.command("verify")
@click.argument("uids", metavar="[UID]...", nargs=-1)
@jobs_option
@format_option
@click.pass_obj
def command(settings: Settings, uids: tuple[str, ...], jobs: int, dask: str | None, fmt: str) -> None:
    """Check every byte of the logs.

    Without UIDs all users are checked.  Nothing is written, and a writer may be at
    work.  Shown are the segments and the rejects: bytes that are no event, and findings
    (0 bytes) about sound ones.  CSV gives the rejects.  Exit code 2: there is damage,
    more than a torn tail.

    With --jobs or --dask users are checked side by side, large ones by segment.  One who
    cannot be read is told, the others are still checked, and the exit code is 1.  --store
    may then be the bucket that 'sync push' wrote, too.

    \b
      meshlab verify
      meshlab --store s3://backups/mesh verify --jobs 4 --format json
    """
    with workers(jobs, dask) as hands:
        ships = fleet(settings, hands)
        if ships is not None:
            run = ships.verify(uids or None)
            segments = run.table("segments").to_pylist()
            rejects = [_reject_row(row) for row in run.table("rejects").to_pylist()]
            _write(segments, rejects, fmt)
            say_failed(run)
            finish_run(run, damage=bool(run.damage))
    store = settings.open()
    results = [(uid, store[uid].verify()) for uid in uids or store.users()]
    segments = [{"uid": uid, **tally._asdict()} for uid, result in results for tally in result.tallies]
    rejects = [reject_row(uid, reject) for uid, result in results for reject in result.rejects]
    finish(damage=_write(segments, rejects, fmt))


def _reject_row(row: Row) -> Row:
    return {**row, "raw": row["raw"][:MAX_RAW].decode("utf-8", "backslashreplace")}


def _write(segments: Sequence[Row], rejects: Sequence[Row], fmt: str) -> bool:
    """Write what was found; returns whether it is damage."""
    damage = is_damage(row["class"] for row in rejects)
    if fmt == "json":
        write_json({"damage": damage, "segments": segments, "rejects": rejects})
    elif fmt == "csv":
        write_rows(rejects, fmt, names=REJECT_COLUMNS)
    else:
        _show(segments, rejects)
    return damage


SEGMENT_COLUMNS = ("uid", "segment", "bytes", "events", "rejects", "reject_bytes", "blanks", "open_tail_bytes")
REJECT_COLUMNS = ("uid", "segment", "line", "offset", "nbytes", "class", "reason", "raw")


def _show(segments: Sequence[Row], rejects: Sequence[Row]) -> None:
    write_rows(segments, "table", names=SEGMENT_COLUMNS, limit=len(segments))
    total = {name: sum(row[name] for row in segments) for name in ("bytes", "events")}
    counts = [counted(len(segments), "segment"), counted(total["events"], "event"), counted(total["bytes"], "byte")]
    say(f"{', '.join(counts)}, {counted(len(rejects), 'reject')}")
    if rejects:
        write_rows(rejects, "table", names=REJECT_COLUMNS)
