"""``meshlab sync pull``: users out of the bucket into the store."""

from __future__ import annotations

import click

from meshlab.cli.output import DAMAGE, ERROR, FINE, Settings, flush, format_option, say, write_rows
from meshlab.cli.sync.options import (
    chosen,
    opened,
    plain,
    remote_option,
    say_problems,
    say_traffic,
    uids_argument,
    write_report,
)
from meshlab.cli.units import with_sizes
from meshlab.wording import size_text

COLUMNS = ("uid", "status", "image", "at", "source", "pieces", "files", "blocks", "bytes", "seconds", "error")
TABLE_COLUMNS = tuple(name for name in COLUMNS if name not in ("at", "pieces", "error"))


@click.command("pull")
@uids_argument
@remote_option
@click.option(
    "--at", metavar="MOMENT", help="A time, or the place of an event as dump shows it; what happened at it counts."
)
@click.option("--image", metavar="SHA256", help="Restore this image (its first digits will do) instead of the newest.")
@click.option("--force", is_flag=True, help="Move a user who is there aside, into .meshlab/remote/replaced.")
@click.option("--dry-run", is_flag=True, help="Show the plan: what would be got, and how it leads to the moment.")
@format_option
@click.pass_obj
def command(
    settings: Settings,
    uids: tuple[str, ...],
    url: str,
    at: str | None,
    image: str | None,
    force: bool,
    dry_run: bool,
    fmt: str,
) -> None:
    """Restore each UID, or all users of the bucket, into the store.

    Each user is restored whole or not at all, every byte compared with its SHA-256, and
    never over one who is there.  With --at it is the user as if nothing had happened
    since.  'meshlab sync windows' shows which moments can be had.  Exit code 1: a user
    failed, the others are restored.  Exit code 2: a plan was shown.

    \b
      meshlab --store new sync pull --remote s3://backups/mesh
      meshlab --store new sync pull --remote s3://backups/mesh ann --at 2025-07-07T12:00:00Z --dry-run
    """
    report = opened(settings, url).pull(chosen(uids), at=at, image=image, force=force, dry_run=dry_run)
    if fmt == "json":
        write_report(report)
    else:
        rows = [plain(user) for user in report.users]
        if fmt == "table":
            rows = with_sizes([{**row, "seconds": round(row["seconds"], 2)} for row in rows], ["bytes"])
        write_rows(rows, fmt, names=COLUMNS if fmt == "csv" else TABLE_COLUMNS)
    if dry_run and fmt == "table":
        _say_plans(report)
    say_problems(report)
    for user in report.users:
        if user.replaced:
            say(f"{user.uid}: the directory that was there is {user.replaced}; restart programs that had it open")
    if dry_run:
        say(f"would get {size_text(sum(user.bytes for user in report.users))}; nothing was changed")
    else:
        say_traffic(report, "pulled")
    flush()
    failed = any(user.error for user in report.users)
    raise click.exceptions.Exit(ERROR if failed else DAMAGE if dry_run and report.users else FINE)


def _say_plans(report: object) -> None:
    for user in report.users:  # type: ignore[attr-defined]
        if user.source:
            then = f", then {'; '.join(user.pieces)}" if user.pieces else ""
            say(f"{user.uid}: from {user.source}{then}")
