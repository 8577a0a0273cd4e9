"""``meshlab sync retain``: delete from the bucket what no moment of the window needs."""

from __future__ import annotations

import click

from meshlab.cli.output import DAMAGE, ERROR, FINE, Settings, flush, format_option, say, write_rows
from meshlab.cli.sync.options import (
    chosen,
    opened,
    plain,
    remote_option,
    say_problems,
    uids_argument,
    write_report,
)
from meshlab.cli.units import with_sizes
from meshlab.wording import counted, size_text

COLUMNS = ("uid", "cutoff", "images", "gone_images", "blocks", "gone_blocks", "gone_bytes", "young_blocks", "error")


@click.command("retain")
@uids_argument
@remote_option
@click.option("--days", type=int, help="Keep moments of so many days.  [default: the retention of each user]")
@click.option("--apply", is_flag=True, help="Delete. Without it nothing is changed.")
@format_option
@click.pass_obj
def command(settings: Settings, uids: tuple[str, ...], url: str, days: int | None, apply: bool, fmt: str) -> None:
    """Say what no moment of the window needs of each UID, or of all users, and with --apply delete it.

    The newest image of every line stays, whatever its age, and so does whatever a moment
    of the window is restored from.  What was put within a day stays for pushes that are
    under way.  Needs the right to delete, which a push does not.  Exit code 2: something
    would go, and --apply was not given.

    \b
      meshlab sync retain --remote s3://backups/mesh
      meshlab sync retain --remote s3://backups/mesh --days 90 --apply
    """
    report = opened(settings, url).retain(chosen(uids), days=days, apply=apply)
    if fmt == "json":
        write_report(report)
    else:
        rows = [plain(user) for user in report.users]
        if fmt == "table":
            rows = with_sizes([{**row, "gone_images": len(row["gone_images"])} for row in rows], ["gone_bytes"])
        write_rows(rows, fmt, names=COLUMNS if fmt == "csv" else COLUMNS[:-1])
    say_problems(report)
    images = sum(len(user.gone_images) for user in report.users)
    blocks, nbytes = (sum(getattr(user, name) for user in report.users) for name in ("gone_blocks", "gone_bytes"))
    told = f"{counted(images, 'image')} and {counted(blocks, 'block')}, {size_text(nbytes)}"
    say(f"deleted {told}" if apply else f"{told}, would be deleted: --apply does it")
    flush()
    failed = any(user.error for user in report.users)
    raise click.exceptions.Exit(ERROR if failed else DAMAGE if (images or blocks) and not apply else FINE)
