"""``meshlab sync push``: what is new here into the bucket."""

from __future__ import annotations

import logging
import signal
import sys
from pathlib import Path
from typing import Any

import click

from meshlab.cli.output import DAMAGE, ERROR, FINE, Settings, flush, format_option, say, write_rows
from meshlab.cli.sync.options import (
    chosen,
    counts_of,
    opened,
    plain,
    remote_option,
    say_problems,
    say_traffic,
    uids_argument,
    write_report,
)
from meshlab.cli.units import Size, Span, with_sizes
from meshlab.service.priority import give_way
from meshlab.wording import size_text

COLUMNS = ("uid", "status", "image", "number", "blocks", "bytes", "requests", "seconds", "forks", "error")
TABLE_COLUMNS = COLUMNS[:-2]


@click.command("push")
@uids_argument
@remote_option
@click.option("--accept", metavar="FILE:OFFSET", multiple=True, help="Push this damage as it is; may be repeated.")
@click.option("--dry-run", is_flag=True, help="Say how many bytes and requests it would take; put nothing.")
@click.option("--watch", is_flag=True, help="Go on for ever, and prove users now and then; JSON lines on stderr.")
@click.option("--once", is_flag=True, help="With --watch: one round, then end.")
@click.option("--interval", type=Span(), default="60s", show_default=True, help="With --watch: between two rounds.")
@click.option(
    "--prove",
    "prove_budget",
    type=Size(),
    default="1GiB",
    show_default=True,
    help="With --watch: bytes per hour that proofs may read, or none.",
)
@click.option("--prove-every", type=Span(), default="1d", show_default=True, help="With --watch: age of a proof.")
@click.option(
    "--metrics-file",
    metavar="FILE.prom",
    type=click.Path(path_type=Path),
    help="With --watch: write lag and proofs there every round, for node_exporter.",
)
@click.option("--verbose", is_flag=True, help="With --watch: log every round.")
@format_option
@click.pass_obj
def command(
    settings: Settings,
    uids: tuple[str, ...],
    url: str,
    accept: tuple[str, ...],
    dry_run: bool,
    watch: bool,
    once: bool,
    verbose: bool,
    fmt: str,
    **values: Any,
) -> None:
    """Put into the bucket what it has not of each UID, or of all users.

    What returns without an error is safe: losing this disk loses nothing of it.  Only
    what is new is put; interrupted, it goes on where it was.  Needs the right to list,
    get and put, not to delete.  Appends never wait for it.

    Exit code 1: a user failed (the others are in the bucket).  Exit code 2: damage, which
    --accept lets through; or another machine has pushed other events of a user, whose own
    are then kept beside them; or, with --dry-run, there is something to push.

    \b
      meshlab sync push --remote s3://backups/mesh --dry-run
      meshlab sync push --remote s3://backups/mesh
      meshlab sync push --remote s3://backups/mesh --watch
    """
    give_way()
    remote = opened(settings, url)
    if watch:
        if uids or accept or dry_run:
            raise click.UsageError("--watch takes no UID, no --accept and no --dry-run: it pushes all users")
        _watch(remote, once, verbose, values)
    if values["metrics_file"] is not None:
        raise click.UsageError("--metrics-file goes with --watch")
    report = remote.push(chosen(uids), accept=accept, dry_run=dry_run)
    if fmt == "json":
        write_report(report)
    else:
        rows = [plain(user) for user in report.users]
        if fmt == "table":
            rows = with_sizes([{**row, "seconds": round(row["seconds"], 2)} for row in rows], ["bytes"])
        write_rows(rows, fmt, names=COLUMNS if fmt == "csv" else TABLE_COLUMNS)
    say_problems(report)
    _say(report)
    flush()
    raise click.exceptions.Exit(_code(report))


def _say(report: Any) -> None:
    for user in report.users:
        if user.status == "behind":
            say(f"behind: {user.uid}: the bucket has all that is here, and more (image {', '.join(user.forks)})")
        elif user.forks:
            say(f"forked: {user.uid}: another machine has pushed other events (image {', '.join(user.forks)})")
    told = ", ".join(f"{count:,} {status}" for status, count in counts_of(report.users, "status").items())
    if report.dry_run:
        nbytes, requests = (sum(getattr(user, name) for user in report.users) for name in ("bytes", "requests"))
        say(f"would put {size_text(nbytes)} in {requests:,} requests; nothing was put")
    else:
        say_traffic(report, told or "nothing")


def _code(report: Any) -> int:
    users = report.users
    if any(user.error and user.kind != "DamageFound" for user in users):
        return ERROR
    if report.dry_run:
        return DAMAGE if any(user.status != "nothing new" for user in users) else FINE
    return DAMAGE if any(user.error or user.forks for user in users) else FINE


def _watch(remote: Any, once: bool, verbose: bool, values: dict[str, Any]) -> None:
    from meshlab.service.jsonlog import json_logger
    from meshlab.service.syncd import Options, SyncDaemon

    if not values["interval"]:
        raise click.UsageError("--interval must be a span of time over 0")
    options = Options(values["interval"], values["prove_budget"], values["prove_every"] or 0.0)
    logger = json_logger("meshlab.syncd", sys.stderr, level=logging.DEBUG if verbose else logging.INFO)
    daemon = SyncDaemon(remote, options, logger=logger, tell=_teller(values["metrics_file"]))
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: daemon.stop())
    well = daemon.run(once=once)
    raise click.exceptions.Exit(ERROR if once and not well else FINE)


def _teller(path: Path | None) -> Any:
    """What writes the numbers into a file, None without one."""
    if path is None:
        return None
    from meshlab.service.textfile import write

    if path.suffix != ".prom" or not path.parent.is_dir():
        raise click.UsageError(f"--metrics-file {path}: must end in .prom and be in a directory that is there")
    return lambda metrics: write(path, metrics)
