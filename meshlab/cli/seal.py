"""``meshlab seal``: columnar copies of finished segments."""

from __future__ import annotations

import click

from meshlab.cli.output import Settings, format_option, write_rows


@click.command("seal")
@click.argument("uids", metavar="[UID]...", nargs=-1)
@format_option
@click.pass_obj
def command(settings: Settings, uids: tuple[str, ...], fmt: str) -> None:
    """Make columnar copies of finished segments.

    They are those of UIDs, of all users when none is named, as Parquet.  The copies are
    a cache that makes loads faster: they are used only while they match their log, and
    may be deleted at any time.  The log itself is not touched.

    \b
      meshlab seal
      meshlab seal ann bob
    """
    store = settings.open()
    rows = [{"uid": uid, **sealed._asdict()} for uid in uids or store.users() for sealed in store[uid].seal()]
    write_rows(rows, fmt)
