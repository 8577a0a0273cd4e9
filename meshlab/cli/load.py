"""``meshlab load``: events into a file other programs read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from meshlab.cli import export
from meshlab.cli.findings import report
from meshlab.cli.jobs import finish_run, fleet, jobs_option, say_failed, workers
from meshlab.cli.output import Settings, finish, format_option, write_json, write_rows
from meshlab.dialects import OPS

OUT_HELP = "A .parquet, .arrow or .csv file; with --jobs or --dask a folder of Parquet files."


@click.command("load")
@click.argument("uids", metavar="[UID]...", nargs=-1)
@click.option("--out", "-o", required=True, type=click.Path(path_type=Path), help=OUT_HELP)
@click.option("--since", metavar="TIME", help="Only events from this moment on (RFC 3339).")
@click.option("--until", metavar="TIME", help="Only events up to this moment, inclusive.")
@click.option("--op", "ops", type=click.Choice(OPS), multiple=True, help="Only these operations (may be repeated).")
@click.option("--id", "ids", multiple=True, help="Only events of these memories (may be repeated).")
@jobs_option
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
    jobs: int,
    dask: str | None,
    fmt: str,
) -> None:
    """Load events into one file.

    They are those of UIDs, of all users when none is named.  The suffix of --out names
    the format.  An existing file is replaced, at the end.

    With --jobs or --dask users are loaded side by side, large ones by segment, into a
    folder: summary.parquet with a row per user, and parts/ with the events.  The same
    command goes on where it was, and users who failed are tried again.  --store may then
    be the bucket that 'sync push' wrote, too.  Exit code 2: there is damage in the logs.

    \b
      meshlab load --since 2025-07-08T00:00:00Z -o events.parquet
      meshlab load --jobs 4 -o build/events
    """
    chosen = {"since": since, "until": until, "ops": list(ops) or None, "ids": list(ids) or None}
    with workers(jobs, dask) as hands:
        ships = fleet(settings, hands)
        if ships is not None:
            _load_many(ships, uids, out, chosen, fmt)
    export.check_target(out)
    events = settings.open().events(users=list(uids) or None, **chosen)
    batches = events.to_batches()
    rows = export.write_file(out, events.schema, batches)
    kinds = events.rejects.column("class").to_pylist()
    done = {"out": str(out), "events": rows, "rejects": len(kinds), "bytes": out.stat().st_size}
    if fmt == "json":
        write_json(done)
    else:
        write_rows([done], fmt)
    finish(damage=report(kinds))


def _load_many(ships: Any, uids: tuple[str, ...], out: Path, chosen: dict[str, Any], fmt: str) -> None:
    """Into a folder, by several workers."""
    if out.suffix in export.SUFFIXES:
        raise click.UsageError(f"--out {out}: several workers write into a folder: name one")
    run = ships.load(uids or None, out=out, **chosen)
    kinds = run.table("rejects")["class"].to_pylist()
    size = sum(path.stat().st_size for path in run.parts("events"))
    rows = sum(row or 0 for row in run.to_arrow()["events"].to_pylist())
    done = {"out": str(out), "events": rows, "rejects": len(kinds), "bytes": size, "users": len(run)}
    if fmt == "json":
        write_json(done)
    else:
        write_rows([done], fmt)
    say_failed(run)
    finish_run(run, damage=report(kinds))
