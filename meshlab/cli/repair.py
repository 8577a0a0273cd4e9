"""``meshlab repair``: a cleaned copy of a damaged log."""

from __future__ import annotations

from pathlib import Path

import click

from meshlab.cli.findings import is_damage, reject_row
from meshlab.cli.output import Settings, finish, format_option, say, write_json, write_rows
from meshlab.cli.verify import REJECT_COLUMNS
from meshlab.wording import counted


@click.command("repair")
@click.argument("uid")
@click.argument("target", type=click.Path(path_type=Path))
@format_option
@click.pass_obj
def command(settings: Settings, uid: str, target: Path, fmt: str) -> None:
    """Write a cleaned copy of a damaged log.

    The log of UID is copied into TARGET, a new directory.  The original is never
    edited.  Shown is every stretch of bytes that was left out.  Exit code 2: damage was
    left out, more than a torn tail.

    \b
      meshlab repair ann repaired/ann
      meshlab --store repaired replay ann
    """
    report = settings.open()[uid].repair(target)
    left_out = [reject_row(uid, reject) for reject in report.left_out]
    if fmt == "json":
        write_json({"target": str(target), "events": report.events, "left_out": left_out})
    else:
        write_rows(left_out, fmt, names=REJECT_COLUMNS)
    copied, left = counted(report.events, "event"), counted(len(left_out), "stretch", "stretches")
    say(f"{copied} copied to {target}, {left} of bytes left out")
    finish(damage=is_damage(row["class"] for row in left_out))
