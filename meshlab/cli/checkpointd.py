"""``meshlab checkpointd``: checkpoints whoever is due, for as long as it runs."""

from __future__ import annotations

import logging
import signal
import sys
from typing import TYPE_CHECKING, Any

import click

from meshlab.cli.output import DAMAGE, ERROR, FINE, Settings, flush, format_option, say, write_rows
from meshlab.cli.units import Size, Span, with_sizes
from meshlab.wal.paths import store_root
from meshlab.wording import counted, size_text, span_text

if TYPE_CHECKING:
    from meshlab.service.checkpointd import Daemon, Due, Options

SIZES = ("bytes", "closed", "would_write")
TABLE_COLUMNS = ("uid", "due", *SIZES, "events", "age", "replay_seconds", "benefit", "score")


@click.command("checkpointd")
@click.option("--interval", type=Span(), default="60s", show_default=True, help="Between two looks at the store.")
@click.option("--workers", type=click.IntRange(1, 64), default=1, show_default=True, help="Processes at once.")
@click.option(
    "--bytes", "nbytes", type=Size(), default="64MiB", show_default=True, help="Due over this much unfolded log."
)
@click.option("--events", type=Size(), default="100k", show_default=True, help="Due over so many unfolded events.")
@click.option("--age", type=Span(), default="1d", show_default=True, help="Due when something unfolded is older.")
@click.option("--replay", type=Span(), default="2s", show_default=True, help="Due when opening would replay longer.")
@click.option(
    "--budget", type=Size(), default="none", show_default=True, help="Bytes all checkpoints may write per hour."
)
@click.option("--timeout", type=Span(), default="1h", show_default=True, help="End a process that takes longer.")
@click.option(
    "--grace", type=Span(), default="5s", show_default=True, help="When stopped, wait so long for those at work."
)
@click.option(
    "--vacuum", is_flag=True, help="Also delete, once a day, what 'meshlab vacuum' finds to be of no more use."
)
@click.option("--once", is_flag=True, help="One round, then end; exit code 1 when a checkpoint failed.")
@click.option("--dry-run", is_flag=True, help="Show who is due, in which order, and end; exit code 2 when anybody is.")
@click.option("--verbose", "-v", is_flag=True, help="Log every round and every start too.")
@format_option
@click.pass_obj
def command(settings: Settings, once: bool, dry_run: bool, verbose: bool, fmt: str, **values: Any) -> None:
    """Checkpoint whoever is due, for as long as it runs.

    It looks at names and sizes only, so ten thousand users take a second, and runs
    'meshlab checkpoint' at low priority for those who are over a threshold (none
    switches one off): first who saves the most per byte written.  It never upgrades a
    phase-1 snapshot and accepts no damage.  What it does goes to stderr, one JSON
    object per line.  SIGTERM and Ctrl-C end it.  docs/operations.md has a systemd unit.

    \b
      meshlab checkpointd --dry-run
      meshlab --store /srv/mesh checkpointd --budget 2GiB --age 6h
    """
    from meshlab.service.checkpointd import Daemon
    from meshlab.service.jsonlog import json_logger

    store, options = store_root(settings.store).absolute(), _options(values, once)
    if dry_run:
        _show_order(Daemon(store, options, logger=_quiet()), options, fmt)
    logger = json_logger("meshlab.checkpointd", sys.stderr, level=logging.DEBUG if verbose else logging.INFO)
    daemon = Daemon(store, options, logger=logger)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: daemon.stop())
    well = daemon.run(once=once)
    raise click.exceptions.Exit(ERROR if once and not well else FINE)


def _options(values: dict[str, Any], once: bool) -> Options:
    from meshlab.service.checkpointd import Options
    from meshlab.service.policy import Thresholds

    for name in ("interval", "timeout", "grace"):
        if not values[name]:
            raise click.UsageError(f"--{name} must be a span of time over 0")
    if values["budget"] == 0:
        raise click.UsageError("--budget must be a size over 0, or none")
    options = Options(
        interval=values["interval"],
        workers=values["workers"],
        thresholds=Thresholds(values["nbytes"], values["events"], values["age"], values["replay"]),
        per_hour=values["budget"],
        timeout=values["timeout"],
        grace=values["grace"],
        vacuum=values["vacuum"],
    )
    return options._replace(vacuum_every=0.0) if once else options


def _quiet() -> logging.Logger:
    logger = logging.Logger("meshlab.checkpointd.dry-run")
    logger.addHandler(logging.NullHandler())
    return logger


def _show_order(daemon: Daemon, options: Options, fmt: str) -> None:
    """Show who is due, then end."""
    due = daemon.due()
    rows = [_row(one, daemon) for one in due]
    if fmt == "table":
        shown = [{**row, "age": span_text(row["age"]), "due": ", ".join(row["due"])} for row in rows]
        write_rows(with_sizes(shown, SIZES), fmt, names=TABLE_COLUMNS)
    else:
        write_rows(rows, fmt, names=TABLE_COLUMNS)
    for uid, problem in daemon.memory.problems.items():
        say(f"skipped: {uid}: {problem}")
    total = sum(one.ranked.cost for one in due)
    limit = f" of {size_text(options.per_hour)} per hour" if options.per_hour is not None else ""
    say(f"{counted(len(due), 'user')} due, about {size_text(total)} to write{limit}")
    flush()
    raise click.exceptions.Exit(DAMAGE if due else FINE)


def _row(one: Due, daemon: Daemon) -> dict[str, Any]:
    from meshlab.service import policy

    log, rates = one.ranked.backlog, daemon.memory.rates
    return {
        "uid": log.uid,
        "due": list(one.reasons),
        "bytes": log.unfolded,
        "closed": log.closed,
        "would_write": one.ranked.cost,
        "events": policy.event_count(log, rates),
        "age": round(policy.age(log, daemon.wall_time()), 3),
        "replay_seconds": round(policy.replay_seconds(log, rates), 3),
        "benefit": round(one.ranked.benefit, 4),
        "score": round(one.ranked.score, 4),
    }
