"""``meshlab migrate finish``: the end of a migration."""

from __future__ import annotations

from pathlib import Path

import click

from meshlab.cli.migrate.options import dry_run_option, loaded, plain, plan_argument, say_dry_run
from meshlab.cli.output import FINE, Settings, flush, format_option, say, write_json, write_rows
from meshlab.cli.units import with_sizes
from meshlab.wording import size_text

COLUMNS = ("uid", "status", "home", "records", "deleted", "bytes_deleted")


@click.command("finish")
@plan_argument
@click.option(
    "--delete-originals", is_flag=True, help="Also delete the old files, if they are still those of the plan."
)
@dry_run_option
@format_option
@click.pass_obj
def command(settings: Settings, plan_file: Path, delete_originals: bool, dry_run: bool, fmt: str) -> None:
    """End the migration of PLAN: from here on there is no rollback.

    First proves once more that the store holds the source, and refuses if it does not.
    Then removes what was kept for going back.  The old files stay where they are unless
    --delete-originals is given.

    \b
      meshlab migrate finish plan.json --dry-run
    """
    from meshlab.migrate import finish

    plan = loaded(settings, plan_file)
    say_dry_run(dry_run)
    report = finish(plan, delete_originals=delete_originals, dry_run=dry_run)
    if fmt == "json":
        write_json(plain(report))
    else:
        rows = [plain(user) for user in report.users]
        if fmt == "table":
            rows = with_sizes([{**row, "deleted": len(row["deleted"])} for row in rows], ["bytes_deleted"])
        write_rows(rows, fmt, names=COLUMNS, limit=len(rows))
    for user in report.users:
        for path in user.kept:
            say(f"kept: {path}")
    freed = report.bytes_freed + sum(user.bytes_deleted for user in report.users)
    say(f"{size_text(freed)} {'would be freed' if dry_run else 'freed'}; no way back {'then' if dry_run else 'now'}")
    say_dry_run(dry_run)
    flush()
    raise click.exceptions.Exit(FINE)
