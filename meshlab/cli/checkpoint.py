"""``meshlab checkpoint``: fold what a log gained into layers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import click

from meshlab.cli.jobs import check_named, fleet, jobs_option, workers
from meshlab.cli.output import DAMAGE, ERROR, FINE, Row, Settings, flush, format_option, say, say_error, write_rows
from meshlab.cli.units import with_sizes
from meshlab.errors import DamageFound, MeshlabError
from meshlab.service.priority import give_way
from meshlab.wal.paths import existing_user
from meshlab.wording import counted, size_text

SIZES = ("bytes_folded", "bytes_written", "bytes_merged", "bytes_saved")
TABLE_COLUMNS = ("uid", "generation", "events", "records", "changed", "gone", "layers", *SIZES, "seconds")
ACCEPT_HELP = "Leave out this damage for good, as 'meshlab verify' names it: wal-20250707.log:1234 (may be repeated)."
RETAIN_HELP = "From now on keep moments restorable for so many days back; 'meshlab vacuum' goes by it."
UPGRADE_HELP = "Allow the first checkpoint over a phase-1 snapshot, which is kept in history/."


@click.command("checkpoint")
@click.argument("uids", metavar="[UID]...", nargs=-1)
@click.option("--all", "everyone", is_flag=True, help="Every user of the store.")
@click.option("--upgrade", is_flag=True, help=UPGRADE_HELP)
@click.option("--accept", metavar="FILE:OFFSET", multiple=True, help=ACCEPT_HELP)
@click.option("--retain", metavar="DAYS", type=click.IntRange(0), help=RETAIN_HELP)
@click.option("--dry-run", is_flag=True, help="Say what would be folded, written and merged; change nothing.")
@jobs_option
@format_option
@click.pass_obj
def command(
    settings: Settings,
    uids: tuple[str, ...],
    everyone: bool,
    upgrade: bool,
    accept: tuple[str, ...],
    retain: int | None,
    dry_run: bool,
    jobs: int,
    dask: str | None,
    fmt: str,
) -> None:
    """Fold what the logs of UIDs gained since their last checkpoint.

    What changed goes into layers beside the log, so that opening a user reads no more
    than the log since then.  Appends never wait for it, and nothing is deleted: that is
    'meshlab vacuum'.  Damage stops it until a person accepts it; the other users are
    still served.  Exit code 2: damage, or --dry-run and there is something to fold.

    \b
      meshlab checkpoint ann --dry-run
      meshlab checkpoint ann bob --retain 30
    """
    check_named(uids, everyone)
    if accept and len(uids) != 1:
        raise click.UsageError("--accept names places in the log of one user: give one UID")
    if accept and (jobs > 1 or dask):
        raise click.UsageError("--accept is for one user: leave out --jobs and --dask")
    store = settings.open()
    names = store.users() if everyone else list(dict.fromkeys(uids))
    for uid in names:
        existing_user(store.path, uid)
    give_way()
    options = {"upgrade": upgrade, "accept": accept, "retain": retain, "dry_run": dry_run}
    outcome = Outcome(dry_run)
    with workers(jobs, dask) as hands:
        ships = fleet(settings, hands)
        rows = outcome.rows(store, names, options) if ships is None else outcome.side_by_side(ships, names, options)
    if fmt == "json":
        write_rows(rows, fmt)
    else:
        _show(list(rows), fmt)
    raise click.exceptions.Exit(outcome.code)


class Outcome:
    """What the checkpoints of some users came to, as rows and as an exit code."""

    def __init__(self, dry_run: bool) -> None:
        self.dry_run = dry_run
        self.code = FINE

    def rows(self, store: Any, uids: Sequence[str], options: dict[str, Any]) -> Iterator[Row]:
        """One row per user, handed on as soon as it is there; a user who fails has ``error``."""
        for uid in uids:
            flush()
            try:
                report = store[uid].checkpoint(**options)
            except MeshlabError as error:
                yield self._failed(uid, type(error).__name__, error.message, error.hint, alone=len(uids) == 1)
            else:
                if self.dry_run and (report.bytes_folded or report.bytes_written):
                    self.code = self.code or DAMAGE
                yield report._asdict()

    def side_by_side(self, ships: Any, uids: Sequence[str], options: dict[str, Any]) -> Iterator[Row]:
        """The same rows of several workers."""
        given = {name: value for name, value in options.items() if name != "accept"}
        run = ships.checkpoint(uids, **given)
        return self._of_run(run, alone=len(uids) == 1)

    def _of_run(self, run: Any, *, alone: bool) -> Iterator[Row]:
        for row in run.to_arrow().to_pylist():
            told = {name: row[name] for name in ("uid", *run.job.figures.names)}
            if not row["ok"]:
                yield self._failed(row["uid"], row["kind"], row["message"], row["hint"], alone=alone)
                continue
            if self.dry_run and (told["bytes_folded"] or told["bytes_written"]):
                self.code = self.code or DAMAGE
            yield told

    def _failed(self, uid: str, kind: str, message: str, hint: str, *, alone: bool) -> Row:
        say_error(message if alone else f"{uid}: {message}", hint)
        if kind == DamageFound.__name__:
            self.code = self.code or DAMAGE
        else:
            self.code = ERROR
        return {"uid": uid, "error": message, "kind": kind, "hint": hint}


def _show(rows: list[Row], fmt: str) -> None:
    done = [row for row in rows if "error" not in row]
    if fmt == "csv":
        write_rows(rows, fmt)
        return
    if done:
        shown = [{**row, "seconds": round(row["seconds"], 1)} for row in done]
        write_rows(with_sizes(shown, SIZES), fmt, names=TABLE_COLUMNS, limit=len(done))
        say(_summary(done))


def _summary(rows: list[Row]) -> str:
    folded, written, saved = (
        sum(row[name] for row in rows) for name in ("bytes_folded", "bytes_written", "bytes_saved")
    )
    if not folded and not written:
        return "nothing to fold"
    verb = "would be folded" if rows[0]["dry_run"] else "folded"
    again = f", {size_text(saved)} were there already" if saved else ""
    return f"{size_text(folded)} of {counted(len(rows), 'log')} {verb} into {size_text(written)} of layers{again}"
