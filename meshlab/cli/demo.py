"""``meshlab demo``: the main job on sample data, from one command."""

from __future__ import annotations

import os
import shlex
from pathlib import Path
from typing import Any

import click

from meshlab.cli.findings import report
from meshlab.cli.notebook import render_notebook
from meshlab.cli.output import Settings, finish, format_option, program, say, write_rows
from meshlab.cli.sample import build_store, repository_folder
from meshlab.dialects import OPS
from meshlab.errors import storage_errors
from meshlab.wal.lines import DIALECTS
from meshlab.wording import counted

SAMPLE = ("data", "samples", "store")
NOTEBOOK = "01_replay.ipynb"

SIZES = ("uid", "days", "bytes", "events", "live", "orphans", "rejects")
KINDS = ("uid", *OPS, *(f"in {dialect}" for dialect in DIALECTS))


@click.command("demo")
@click.option("--events", type=click.IntRange(1), help="Build a store of this many events first.")
@click.option("--users", type=click.IntRange(1), default=6, show_default=True, help="Users of the store to build.")
@click.option("--days", type=click.IntRange(1), default=10, show_default=True, help="Days of the store to build.")
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    default=Path("build/demo"),
    show_default=True,
    help="Where the results go.",
)
@format_option
@click.pass_obj
def command(settings: Settings, events: int | None, users: int, days: int, out: Path, fmt: str) -> None:
    """Run the main job on sample data.

    It verifies a store, loads it to Arrow, replays every user, and runs the first
    notebook.  The store is the sample that comes with meshlab, the one given by
    --store, or with --events a new one under --out.

    \b
      meshlab demo
      meshlab demo --events 1000000 --users 50 --days 30
    """
    with storage_errors("create", out):
        out.mkdir(parents=True, exist_ok=True)
    path = build_store(out / "store", events, users, days) if events else _sample(settings)
    store = Settings(str(path)).open()
    kinds = _verify(store)
    _load(store)
    rows = _rows(store)
    _show(rows, fmt)
    _render(path, out)
    _say_next(path, rows)
    finish(damage=report(kinds))


def _sample(settings: Settings) -> Path:
    return Path(settings.store) if settings.store else repository_folder(*SAMPLE)


def _verify(store: Any) -> list[str]:
    """Check every frame of every user; returns the classes of all rejects."""
    results = [store[uid].verify() for uid in store.users()]
    tallies = [tally for result in results for tally in result.tallies]
    say(f"verified {counted(len(tallies), 'segment')}, {sum(tally.bytes for tally in tallies):,} bytes")
    return [reject.kind for result in results for reject in result.rejects]


def _load(store: Any) -> None:
    """Every event of every user as one Arrow table."""
    table = store.events().to_arrow()
    say(f"loaded {counted(table.num_rows, 'event')} to Arrow, {table.nbytes:,} bytes")


def _rows(store: Any) -> list[dict[str, Any]]:
    """One row per user: what its log holds and what lives after replay."""
    rows = [{"uid": uid, **store[uid].stats(), **_live(store[uid].state())} for uid in store.users()]
    say(f"replayed {counted(len(rows), 'user')}")
    return rows


def _live(state: Any) -> dict[str, int]:
    return {"live": len(state), "orphans": len(state.orphans)}


def _show(rows: list[dict[str, Any]], fmt: str) -> None:
    if fmt != "table":
        write_rows(rows, fmt)
        return
    click.echo()
    write_rows(rows, fmt, names=SIZES)
    click.echo()
    write_rows(rows, fmt, names=KINDS)


def _render(store: Path, out: Path) -> None:
    """Run the notebook on the store; say where its pages went."""
    source = repository_folder("notebooks") / NOTEBOOK
    say(f"running {source.name}")
    html, figure = render_notebook(source, out, store=store)
    say("")
    say("written:")
    for path in filter(None, (html, figure)):
        say(f"  {path}")


def _say_next(store: Path, rows: list[dict[str, Any]]) -> None:
    uid = max(rows, key=lambda row: row["events"])["uid"] if rows else "UID"
    here = f"{program()} --store {shlex.quote(os.path.relpath(store))}"
    say("")
    say("next:")
    say(f"  {here} replay {uid}")
    say(f"  {here} sql 'select op, count(*) as events, sum(nbytes) as bytes from events group by op'")
    say(f"  {here} load -o events.parquet")
    say("  make lab")
