"""``meshlab load``: events into a file other programs read."""

from __future__ import annotations

from pathlib import Path

import click

from meshlab.cli import export
from meshlab.cli.findings import report
from meshlab.cli.output import Settings, finish, format_option, write_json, write_rows
from meshlab.dialects import OPS


@click.command("load")
@click.argument("uids", metavar="[UID]...", nargs=-1)
@click.option("--out", "-o", required=True, type=click.Path(path_type=Path), help="A .parquet, .arrow or .csv file.")
@click.option("--since", metavar="TIME", help="Only events from this moment on (RFC 3339).")
@click.option("--until", metavar="TIME", help="Only events up to this moment, inclusive.")
@click.option("--op", "ops", type=click.Choice(OPS), multiple=True, help="Only these operations (may be repeated).")
@click.option("--id", "ids", multiple=True, help="Only events of these memories (may be repeated).")
@format_option
@click.pass_obj
def command(
    settings: Settings,
    uids: tuple[str, ...],
    out: Path,
    since: str | None,
    until: str | None,
    ops: tuple[str, ...],
    ids: tuple[str, ...],
    fmt: str,
) -> None:
    """Load events into one file.

    They are those of UIDs, of all users when none is named.  The suffix of --out names
    the format.  An existing file is replaced, at the end.
    """
    export.check_target(out)
    events = settings.open().events(
        users=list(uids) or None, since=since, until=until, ops=list(ops) or None, ids=list(ids) or None
    )
    batches = events.to_batches()
    rows = export.write_file(out, events.schema, batches)
    kinds = events.rejects.column("class").to_pylist()
    done = {"out": str(out), "events": rows, "rejects": len(kinds), "bytes": out.stat().st_size}
    if fmt == "json":
        write_json(done)
    else:
        write_rows([done], fmt)
    finish(damage=report(kinds))
