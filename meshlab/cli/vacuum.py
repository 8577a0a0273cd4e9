"""``meshlab vacuum``: delete what no moment that must stay restorable needs."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NoReturn

import click

from meshlab.cli.jobs import check_named, finish_run, fleet, jobs_option, say_failed, workers
from meshlab.cli.output import DAMAGE, FINE, Row, Settings, flush, format_option, say, write_json, write_rows
from meshlab.cli.units import with_sizes
from meshlab.service.priority import give_way
from meshlab.times import format_time
from meshlab.wal.chain import LONG_AGO
from meshlab.wording import counted, size_text

USER_COLUMNS = ("uid", "generation", "files", "bytes_freed", "events", "applied")
COLUMNS = ("kind", "name", "bytes", "fate", "reason")
KINDS = {"segment": "segments", "layer": "layers", "snapshot": "history"}


@click.command("vacuum")
@click.argument("uids", metavar="[UID]...", nargs=-1)
@click.option("--all", "everyone", is_flag=True, help="Every user of the store.")
@click.option("--apply", is_flag=True, help="Delete. Without it nothing is changed.")
@jobs_option
@format_option
@click.pass_obj
def command(
    settings: Settings, uids: tuple[str, ...], everyone: bool, apply: bool, jobs: int, dask: str | None, fmt: str
) -> None:
    """Say which files of UIDs retention no longer needs, and with --apply delete them.

    A segment goes when it is folded, no moment of the last days (14, unless set by
    'meshlab checkpoint --retain') needs it, and it is neither of today or yesterday nor
    the newest.  Its totals by day, hour, op and dialect are kept in a ledger.  Of one
    user the table shows every segment, and of layers and earlier snapshots those that
    go; JSON and CSV show all.  Of several there is one row for each.  Exit code 2:
    something would go, and --apply was not given.

    \b
      meshlab vacuum ann
      meshlab vacuum ann --apply
      meshlab vacuum --all --apply --jobs 4
    """
    check_named(uids, everyone)
    give_way()
    if len(uids) == 1 and jobs == 1 and dask is None:
        _one(settings.open()[uids[0]].vacuum(apply=apply), fmt)
    with workers(jobs, dask) as hands:
        ships = fleet(settings, hands if hands is not None else 1)
        _several(ships.vacuum(uids or None, apply=apply), fmt, apply=apply)


def _one(report: Any, fmt: str) -> NoReturn:
    """Tell what became of every file, and end the command."""
    if fmt == "json":
        write_json(_answer(report))
    elif fmt == "csv":
        write_rows(_rows(report), fmt, names=COLUMNS)
    else:
        shown = [row for row in _rows(report) if row["kind"] == "segment" or row["goes"]]
        write_rows(with_sizes(shown, ["bytes"]), fmt, names=COLUMNS, limit=len(shown))
    going = [fate for fates in _fates(report).values() for fate in fates if fate.goes]
    _say(report, len(going))
    flush()
    raise click.exceptions.Exit(DAMAGE if going and not report.applied else FINE)


def _several(run: Any, fmt: str, *, apply: bool) -> NoReturn:
    """Tell what became of every user, and end the command."""
    rows = [{name: row[name] for name in USER_COLUMNS} for row in run.to_arrow().to_pylist() if row["ok"]]
    shown = with_sizes(rows, ["bytes_freed"]) if fmt == "table" else rows
    write_rows(shown, fmt, names=USER_COLUMNS, limit=len(rows) or 1)
    files, nbytes = (sum(row[name] for row in rows) for name in ("files", "bytes_freed"))
    of = f"{counted(files, 'file')} of {counted(len(rows), 'user')}, {size_text(nbytes)}"
    say(f"deleted {of}" if apply else f"{of}, would be deleted: --apply does it" if files else "nothing to delete")
    say_failed(run)
    finish_run(run, damage=bool(files) and not apply)


def _fates(report: Any) -> dict[str, list[Any]]:
    return {kind: getattr(report, name) for kind, name in KINDS.items()}


def _rows(report: Any) -> list[Row]:
    return [
        {
            "kind": kind,
            "name": fate.name,
            "bytes": fate.nbytes,
            "fate": _word(goes=fate.goes, applied=report.applied),
            "goes": fate.goes,
            "reason": fate.reason,
        }
        for kind, fates in _fates(report).items()
        for fate in fates
    ]


def _word(*, goes: bool, applied: bool) -> str:
    return ("went" if applied else "goes") if goes else "stays"


def _answer(report: Any) -> dict[str, Any]:
    """The report as one JSON object."""

    def plain(fates: Iterable[Any]) -> list[dict[str, Any]]:
        return [{"name": f.name, "bytes": f.nbytes, "goes": f.goes, "reason": f.reason} for f in fates]

    return {
        "uid": report.uid,
        "generation": report.generation,
        "restorable_from": _cutoff(report),
        "applied": report.applied,
        "bytes_freed": report.bytes_freed,
        "ledger": {"events": report.events, "bytes": report.event_bytes},
        **{name: plain(getattr(report, name)) for name in KINDS.values()},
    }


def _cutoff(report: Any) -> str | None:
    return format_time(report.cutoff) if report.cutoff > LONG_AGO else None


def _say(report: Any, going: int) -> None:
    if not report.generation:
        say("no checkpoint yet: 'meshlab checkpoint' comes first")
        return
    segments = sum(fate.goes for fate in report.segments)
    if not going:
        say("nothing to delete")
    elif report.applied:
        say(f"deleted {counted(going, 'file')}, {size_text(report.bytes_freed)}")
        if segments:
            say(f"ledger: {counted(report.events, 'event')} in {size_text(report.event_bytes)}")
    else:
        say(f"{counted(going, 'file')}, {size_text(report.bytes_freed)}, would be deleted: --apply does it")
    if cutoff := _cutoff(report):
        say(f"moments from {cutoff} on must stay restorable")
