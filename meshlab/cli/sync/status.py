"""``meshlab sync status``: how the bucket stands to the store."""

from __future__ import annotations

from typing import Any

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
from meshlab.wording import counted, size_text, span_text

COLUMNS = (
    *("uid", "images", "heads", "image", "number", "machine", "looked_at", "seq", "generation", "bytes"),
    *("lag_bytes", "lag_seconds", "proof", "proved_at", "error"),
)
TABLE_COLUMNS = ("uid", "images", "image", "pushed", "seq", "bytes", "lag_bytes", "lag", "proof", "proved")


@click.command("status")
@uids_argument
@remote_option
@format_option
@click.pass_obj
def command(settings: Settings, uids: tuple[str, ...], url: str, fmt: str) -> None:
    """Show what the bucket has of each UID, or of all users, and what it has not yet.

    The lag is what losing this disk would lose: bytes of the log, and for how long at
    most they have been waiting.  Exit code 2: machines disagree about a user, or one of
    the store is not in the bucket.

    \b
      meshlab sync status --remote s3://backups/mesh
    """
    report = opened(settings, url).status(chosen(uids))
    if fmt == "json":
        write_report(report)
    elif fmt == "csv":
        write_rows([plain(user) for user in report.users], fmt, names=COLUMNS)
    else:
        write_rows(with_sizes([_row(user) for user in report.users], ["bytes", "lag_bytes"]), fmt, names=TABLE_COLUMNS)
    say_problems(report)
    missing = [user.uid for user in report.users if not user.images and user.lag_bytes is not None]
    forked = [user for user in report.users if len(user.heads) > 1]
    for user in forked:
        say(f"forked: {user.uid}: {len(user.heads)} lines of images, with the heads {', '.join(user.heads)}")
    if missing:
        say(f"not in the bucket: {', '.join(missing[:5])}{' ...' if len(missing) > 5 else ''}")
    waiting = sum(user.lag_bytes or 0 for user in report.users)
    say(f"{counted(len(report.users), 'user')}; {size_text(waiting)} not in the bucket yet")
    flush()
    failed = any(user.error for user in report.users)
    raise click.exceptions.Exit(ERROR if failed else DAMAGE if forked or missing else FINE)


def _row(user: Any) -> dict[str, Any]:
    told = plain(user)
    lag = user.lag_seconds
    return {
        **told,
        "image": told["image"][:8],
        "pushed": _second(told["looked_at"]),
        "lag": "" if lag is None else span_text(lag) if lag else "0 s",
        "proved": _second(told["proved_at"]) or "never",
    }


def _second(moment: str | None) -> str:
    return f"{moment[:19]}Z" if moment else ""
