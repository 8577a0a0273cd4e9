"""``meshlab diff``: what changed between two moments."""

from __future__ import annotations

from itertools import groupby
from typing import Any

import click

from meshlab.cli.findings import say_damage
from meshlab.cli.output import Settings, finish, format_option, say, write_rows
from meshlab.wording import counted

RECORD_COLUMNS = ("id", "change", "fields")
FIELD_COLUMNS = ("id", "change", "field", "before", "after")


@click.command("diff")
@click.argument("uid")
@click.argument("t0")
@click.argument("t1", required=False)
@click.option("--fields", is_flag=True, help="One row per field, with its value before and after.")
@click.option("--limit", type=click.IntRange(1), help="Rows of the table to show.")
@format_option
@click.pass_obj
def command(settings: Settings, uid: str, t0: str, t1: str | None, fields: bool, limit: int | None, fmt: str) -> None:
    """Show which memories of UID came, went or changed from T0 to T1.

    A moment is an RFC 3339 time or the place of an event (20250707:1234); what happened
    at it counts.  Without T1 it is now.  'meshlab windows' tells which moments can be
    restored.  Exit code 2: there is damage in the log.

    \b
      meshlab diff ann 2025-07-07T00:00:00Z 2025-07-08T00:00:00Z --fields
    """
    diff = settings.open()[uid].diff(t0, t1)
    if fields:
        rows = diff.to_pylist() if fmt == "json" else diff.to_arrow().to_pylist()
        write_rows(rows, fmt, names=FIELD_COLUMNS, limit=limit)
    else:
        write_rows(_by_record(diff), fmt, names=RECORD_COLUMNS, limit=limit)
    say(_summary(diff))
    say_damage(diff.damage)
    finish(damage=bool(diff.damage))


def _by_record(diff: Any) -> list[dict[str, Any]]:
    """One row per record with the names of the fields that differ."""
    rows = diff.to_arrow().select(["id", "change", "field"]).to_pylist()
    return [
        {"id": key[0], "change": key[1], "fields": [row["field"] for row in group]}
        for key, group in groupby(rows, key=lambda row: (row["id"], row["change"]))
    ]


def _summary(diff: Any) -> str:
    told = [f"{count:,} {name}" for name, count in diff.counts.items() if count]
    fields = ", ".join(f"{name} ({count:,})" for name, count in diff.fields.items())
    if not told:
        return "no difference"
    total = counted(sum(diff.counts.values()), "memory", "memories")
    return f"{total}: {', '.join(told)}" + (f"; changed fields: {fields}" if fields else "")
