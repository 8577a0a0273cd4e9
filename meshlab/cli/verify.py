"""``meshlab verify``: is every byte of a log accounted for."""

from __future__ import annotations

from collections.abc import Sequence

import click

from meshlab.cli.findings import is_damage, reject_row
from meshlab.cli.output import Row, Settings, finish, format_option, say, write_json, write_rows
from meshlab.wording import counted


@click.command("verify")
@click.argument("uids", metavar="[UID]...", nargs=-1)
@format_option
@click.pass_obj
def command(settings: Settings, uids: tuple[str, ...], fmt: str) -> None:
    """Check every byte of the logs.

    Without UIDs all users are checked.  Nothing is written, and a writer may be at
    work.  Shown are the segments and the rejects: bytes that are no event, and findings
    (0 bytes) about sound ones.  CSV gives the rejects.  Exit code 2: there is damage,
    more than a torn tail.
    """
    store = settings.open()
    results = [(uid, store[uid].verify()) for uid in uids or store.users()]
    segments = [{"uid": uid, **tally._asdict()} for uid, result in results for tally in result.tallies]
    rejects = [reject_row(uid, reject) for uid, result in results for reject in result.rejects]
    damage = is_damage(row["class"] for row in rejects)
    if fmt == "json":
        write_json({"damage": damage, "segments": segments, "rejects": rejects})
    elif fmt == "csv":
        write_rows(rejects, fmt, names=REJECT_COLUMNS)
    else:
        _show(segments, rejects)
    finish(damage=damage)


SEGMENT_COLUMNS = ("uid", "segment", "bytes", "events", "rejects", "reject_bytes", "blanks", "open_tail_bytes")
REJECT_COLUMNS = ("uid", "segment", "line", "offset", "nbytes", "class", "reason", "raw")


def _show(segments: Sequence[Row], rejects: Sequence[Row]) -> None:
    write_rows(segments, "table", names=SEGMENT_COLUMNS, limit=len(segments))
    total = {name: sum(row[name] for row in segments) for name in ("bytes", "events")}
    counts = [counted(len(segments), "segment"), counted(total["events"], "event"), counted(total["bytes"], "byte")]
    say(f"{', '.join(counts)}, {counted(len(rejects), 'reject')}")
    if rejects:
        write_rows(rejects, "table", names=REJECT_COLUMNS)
