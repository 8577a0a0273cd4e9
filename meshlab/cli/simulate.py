"""``meshlab simulate``: which checkpoint policy to set."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from meshlab.cli.figure import plot_option, write_plot
from meshlab.cli.findings import say_damage
from meshlab.cli.jobs import crew, jobs_option
from meshlab.cli.output import Settings, arrow_rows, finish, format_option, say, write_rows
from meshlab.cli.units import Size, Span, with_sizes

COLUMNS = (
    "policy",
    "checkpoints_per_day",
    "peak_wal_bytes",
    "peak_disk_bytes",
    "written_bytes",
    "write_amplification",
    "worst_replay_seconds",
)
SIZES = ("peak_wal_bytes", "peak_disk_bytes", "written_bytes")


def _policies(context: click.Context, parameter: click.Parameter, values: tuple[str, ...]) -> list[Any] | None:
    from meshlab.growth.policies import read_policy

    def reader(kind: Any) -> Any:
        return lambda text: kind.convert(text, parameter, context)

    return [read_policy(text, size=reader(Size()), span=reader(Span())) for text in values] or None


@click.command("simulate")
@click.argument("uids", metavar="[UID]...", nargs=-1)
@click.option(
    "--policy",
    "policies",
    multiple=True,
    callback=_policies,
    metavar="LIMITS",
    help="A policy to try, such as bytes=64MB,age=1d (may be repeated); about fifty are tried without.",
)
@click.option(
    "--users",
    type=click.IntRange(1, 1_000_000),
    default=1,
    show_default=True,
    help="As if there were so many times the users.",
)
@click.option(
    "--recalls",
    type=click.IntRange(1, 1_000_000),
    default=1,
    show_default=True,
    help="As if each recall came so often.",
)
@click.option(
    "--replay", type=Span(), default="2s", show_default=True, help="The longest replay a recommended policy may allow."
)
@click.option("--all", "everything", is_flag=True, help="All policies in the table, not the Pareto set alone.")
@plot_option
@jobs_option
@format_option
@click.pass_obj
def command(
    settings: Settings,
    uids: tuple[str, ...],
    policies: list[Any] | None,
    users: int,
    recalls: int,
    replay: float | None,
    everything: bool,
    plot: Path | None,
    jobs: int,
    dask: str | None,
    fmt: str,
) -> None:
    """Replay what UIDs (all users) did against checkpoint policies, and recommend one.

    A checkpoint comes as soon as any limit of a policy is exceeded: bytes, events, age,
    replay (seconds).  The table shows the policies that no other beats in bytes written,
    peak WAL and worst replay at once.  Nothing is written.  Exit code 2: there is damage
    in the logs.

    \b
      meshlab simulate --plot policies.png
      meshlab simulate --policy bytes=64MB --policy age=1d --recalls 10
    """
    if replay is None:
        raise click.UsageError("--replay none: a longest replay is needed for a recommendation")
    with crew(jobs, dask) as pool:
        growth = settings.open().growth(uids or None, executor=pool)
        result = growth.simulate(policies, users=users, recalls=recalls, replay=replay)
        damage = growth.damage
    if fmt == "table":
        rows = [_rounded(row) for row in arrow_rows(result.table if everything or policies else result.pareto)]
        write_rows(with_sizes(rows, SIZES), fmt, names=COLUMNS, limit=len(rows) or 1)
    else:
        write_rows(list(arrow_rows(result.table)), fmt, names=result.table.column_names)
    say(result.recommendation)
    for note in result.notes:
        say(note)
    write_plot(result, plot)
    say_damage(damage)
    finish(damage=bool(damage))


def _rounded(row: dict[str, Any]) -> dict[str, Any]:
    """A row as a person compares it with others."""
    return {name: float(f"{value:.2g}") if isinstance(value, float) else value for name, value in row.items()}
