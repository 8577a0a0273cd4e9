"""``meshlab forecast``: the bytes of the coming days, and when a size is reached."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from meshlab.cli.figure import plot_option, write_plot
from meshlab.cli.findings import say_damage
from meshlab.cli.jobs import crew, jobs_option
from meshlab.cli.output import Settings, arrow_rows, finish, format_option, say, write_json, write_rows
from meshlab.cli.units import Size, with_sizes

SIZES = ("bytes", "low", "high", "size", "size_low", "size_high")


@click.command("forecast")
@click.argument("uids", metavar="[UID]...", nargs=-1)
@click.option("--limit", type=Size(), default="2GB", show_default=True, help="The size to ask about, such as 500MB.")
@click.option(
    "--days", type=click.IntRange(1, 730), default=28, show_default=True, help="Days of the forecast to write."
)
@plot_option
@jobs_option
@format_option
@click.pass_obj
def command(
    settings: Settings,
    uids: tuple[str, ...],
    limit: float | None,
    days: int,
    plot: Path | None,
    jobs: int,
    dask: str | None,
    fmt: str,
) -> None:
    """Tell how the logs of UIDs (of all users together) will grow.

    low and high bound four of five futures; how many past days lay within such bounds is
    told.  The size of a coming day takes it that nothing is deleted.  JSON is an object:
    the answer, and under "rows" past and coming days.  Exit code 2: there is damage in
    the logs.

    \b
      meshlab forecast --limit 10GB
      meshlab forecast ann --days 60 --plot forecast.png
    """
    if limit is None:
        raise click.UsageError("--limit none: a size is needed to say when it is reached")
    with crew(jobs, dask) as pool:
        growth = settings.open().growth(uids or None, executor=pool)
        result = growth.forecast(int(limit), days=days)
    _show(result, fmt)
    write_plot(result, plot)
    say_damage(growth.damage)
    finish(damage=bool(growth.damage))


def _show(result: Any, fmt: str) -> None:
    rows = list(arrow_rows(result.to_arrow()))
    if fmt == "json":
        write_json({**result.answer, "rows": rows})
        return
    if fmt == "csv":
        write_rows(rows, fmt, names=result.to_arrow().column_names)
        return
    coming = [row for row in rows if row["kind"] != "past"]
    write_rows(with_sizes(coming, SIZES), fmt, names=["day", "kind", *SIZES], limit=len(coming) or 1)
    for sentence in result.sentences:
        say(sentence)
