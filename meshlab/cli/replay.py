"""``meshlab replay``: the memories a log leaves alive."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from meshlab.cli import export
from meshlab.cli.findings import report
from meshlab.cli.output import Settings, arrow_rows, finish, format_option, say, write_rows
from meshlab.records import FIELDS
from meshlab.wording import counted

TABLE_COLUMNS = ("id", "content", "amplitude", "stability", "access_count", "last_accessed", "vault_status")
CSV_COLUMNS = (*FIELDS, "extra")


@click.command("replay")
@click.argument("uid")
@click.option("--at", metavar="MOMENT", help="As of then: an RFC 3339 time, or the place of an event (20250707:1234).")
@click.option("--out", "-o", type=click.Path(path_type=Path), help="Write to a .parquet, .arrow or .csv file instead.")
@click.option("--limit", type=click.IntRange(1), help="Rows of the table to show.")
@format_option
@click.pass_obj
def command(settings: Settings, uid: str, at: str | None, out: Path | None, limit: int | None, fmt: str) -> None:
    """Show the memories a log leaves alive.

    The log of UID is replayed over its newest checkpoint, or with --at over the newest
    before that moment, which is included.  'meshlab windows' tells which moments can be
    restored.  JSON gives each memory in the form it has in the log; the table shows a
    few fields.

    \b
      meshlab replay ann
      meshlab replay ann --at 2025-07-07T12:00:00Z
    """
    if out is not None:
        export.check_target(out)
    state = settings.open()[uid].state(at)
    if out is not None:
        table = state.to_arrow()
        rows = export.write_file(out, table.schema, table.to_batches(max_chunksize=50_000))
        say(f"{counted(rows, 'memory', 'memories')} written to {out}")
    else:
        _show(state, fmt, limit)
    _say_orphans(state)
    finish(damage=report(state.rejects.column("class").to_pylist()))


def _show(state: Any, fmt: str, limit: int | None) -> None:
    if fmt == "json":
        write_rows(state.to_pylist(), fmt)
    elif fmt == "csv":
        write_rows(arrow_rows(state.to_arrow()), fmt, names=CSV_COLUMNS)
    else:
        table = state.to_arrow().select(list(TABLE_COLUMNS))
        write_rows(arrow_rows(table), fmt, names=TABLE_COLUMNS, limit=limit)
        say(f"{counted(len(state), 'memory', 'memories')} live")


def _say_orphans(state: Any) -> None:
    if orphans := len(state.orphans):
        say(f"{counted(orphans, 'orphan')}: updates of memories that were not there, not applied")
