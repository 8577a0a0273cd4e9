"""``meshlab migrate apply``: carry a plan out."""

from __future__ import annotations

from pathlib import Path

import click

from meshlab.cli.migrate.options import (
    dry_run_option,
    jobs_option,
    loaded,
    plain,
    plan_argument,
    rate_option,
    resumable,
    say_dry_run,
    say_pause,
)
from meshlab.cli.output import DAMAGE, FINE, Settings, flush, format_option, say, write_json, write_rows
from meshlab.cli.units import with_sizes
from meshlab.wording import span_text

COLUMNS = ("uid", "status", "records", "bytes_read", "bytes_written", "seconds", "state_hash", "error")


@click.command("apply")
@plan_argument
@click.option("--without-rehearsal", is_flag=True, help="Do it although no rehearsal of this plan has passed.")
@jobs_option
@rate_option
@dry_run_option
@format_option
@click.pass_obj
def command(
    settings: Settings,
    plan_file: Path,
    without_rehearsal: bool,
    jobs: int | None,
    limit_rate: float | None,
    dry_run: bool,
    fmt: str,
) -> None:
    """Carry out PLAN: every user whole or not at all.

    Refuses when any file has changed since the plan was made, and when no rehearsal of
    the plan has passed.  Interrupted, it goes on where it was when started again; done,
    it does nothing.  It waits while the file .meshlab/migrate/pause exists in the
    store.  Exit code 2: users failed (the others are in place); the old files are as
    they were in any case.

    \b
      meshlab migrate apply plan.json --limit-rate 50MB
    """
    from meshlab.migrate import apply

    plan = loaded(settings, plan_file)
    say_dry_run(dry_run)
    if not dry_run:
        say_pause(plan)
    with resumable():
        report = apply(
            plan_file, without_rehearsal=without_rehearsal, jobs=jobs, limit_rate=limit_rate, dry_run=dry_run
        )
    if fmt == "json":
        write_json(plain(report))
    else:
        rows = [plain(user) for user in report.users]
        if fmt == "table":
            rows = with_sizes(
                [{**row, "seconds": round(row["seconds"], 1), "state_hash": row["state_hash"][:8]} for row in rows],
                ["bytes_read", "bytes_written"],
            )
        write_rows(rows, fmt, names=COLUMNS, limit=len(rows))
    for user in report.failed:
        say(f"{user.status}: {user.uid}: {user.error}" + (f" ({user.hint})" if user.hint else ""))
    if not dry_run:
        say(f"{report.verdict}, in {span_text(report.seconds)}")
        if all(user.status in ("migrated", "already") for user in report.users):
            say(f"next: meshlab migrate verify {plan_file}; there is a way back until 'meshlab migrate finish'")
    say_dry_run(dry_run)
    flush()
    raise click.exceptions.Exit(DAMAGE if report.failed else FINE)
