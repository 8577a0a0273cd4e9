"""``meshlab migrate rollback``: the old layout again, with what was written since."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from meshlab.cli.migrate.options import (
    accept_option,
    by_user,
    dry_run_option,
    loaded,
    plain,
    plan_argument,
    rate_option,
    resumable,
    say_dry_run,
    say_pause,
)
from meshlab.cli.output import DAMAGE, FINE, Settings, flush, format_option, say, write_json, write_rows
from meshlab.wording import counted

if TYPE_CHECKING:
    from meshlab.migrate.outcome import RollbackReport

COLUMNS = ("uid", "status", "records", "events_since", "originals", "left_over", "error")


@click.command("rollback")
@plan_argument
@accept_option
@rate_option
@dry_run_option
@format_option
@click.pass_obj
def command(
    settings: Settings, plan_file: Path, accept: tuple[str, ...], limit_rate: float | None, dry_run: bool, fmt: str
) -> None:
    """Give the users of PLAN back to the old layout.

    What was written to the store since is folded into the old files; what the old
    format cannot hold is listed and kept beside them.  The files as they were are kept
    too, under another name, and so are the users' directories of the store, until
    'migrate finish'.  Stop every program that writes to the store first.  Interrupted,
    it goes on when started again.  Exit code 2: something did not fit, or users failed.

    \b
      meshlab migrate rollback plan.json --dry-run
    """
    from meshlab.migrate import roll_back

    plan = loaded(settings, plan_file)
    say_dry_run(dry_run)
    if not dry_run:
        say_pause(plan)
    with resumable():
        report = roll_back(plan, accept=by_user(accept), limit_rate=limit_rate, dry_run=dry_run)
    if fmt == "json":
        write_json(plain(report))
    else:
        write_rows([plain(user) for user in report.users], fmt, names=COLUMNS, limit=len(report.users))
    for user in report.users:
        if user.error:
            say(f"failed: {user.uid}: {user.error}" + (f" ({user.hint})" if user.hint else ""))
        if user.warning:
            say(f"warning: {user.uid}: {user.warning}")
        if user.left_over:
            say(f"{user.uid}: {counted(user.left_over, 'item')} did not fit the old format: {user.kept_beside}")
    if not dry_run:
        _say_what_became(report)
    elif any(user.left_over is None for user in report.users):
        say("what does not fit the old format is known only when it is done")
    say_dry_run(dry_run)
    flush()
    raise click.exceptions.Exit(
        DAMAGE if any(user.error or user.warning or user.left_over for user in report.users) else FINE
    )


def _say_what_became(report: RollbackReport) -> None:
    done = [user for user in report.users if user.status == "rolled-back"]
    anew = [user for user in done if user.set_aside]
    if not done and not report.failed:
        say("nothing to roll back")
        return
    say(f"{counted(len(done), 'user')} rolled back, {len(report.failed)} failed")
    if anew:
        say(
            f"the old files as they were: {anew[0].set_aside[0]}"
            + (" and others beside theirs" if len(anew) > 1 else "")
        )
