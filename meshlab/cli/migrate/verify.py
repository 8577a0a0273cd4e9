"""``meshlab migrate verify``: proof that the store holds the source."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from meshlab.cli.migrate.options import jobs_option, loaded, plain, plan_argument
from meshlab.cli.output import DAMAGE, FINE, Settings, flush, format_option, say, write_json, write_rows

COLUMNS = ("uid", "holds", "records", "state_hash", "events_since", "problem")


@click.command("verify")
@plan_argument
@jobs_option
@format_option
@click.pass_obj
def command(settings: Settings, plan_file: Path, jobs: int | None, fmt: str) -> None:
    """Prove that the store holds what the source of PLAN holds.

    Reads both sides again: the old files must be those of the plan and come to its
    state hash, and so must the layers of the migrated generation, whatever was written
    since.  Possible until 'migrate finish'.  Exit code 2: it does not hold.

    \b
      meshlab migrate verify plan.json
    """
    from meshlab.migrate import verify

    report = verify(loaded(settings, plan_file), jobs=jobs)
    if fmt == "json":
        write_json(plain(report))
    else:
        rows = [plain(user) for user in report.users]
        if fmt == "table":
            rows = [{**row, "state_hash": row["state_hash"][:8], "problem": _without_uid(row)} for row in rows]
        write_rows(rows, fmt, names=COLUMNS, limit=len(rows))
    say(report.verdict)
    flush()
    raise click.exceptions.Exit(FINE if report.holds else DAMAGE)


def _without_uid(row: dict[str, Any]) -> str:
    """The problem of a user, whose uid stands in the row already."""
    return str(row["problem"]).removeprefix(f"{row['uid']}: ")
