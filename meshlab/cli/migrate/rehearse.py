"""``meshlab migrate rehearse``: the same migration on a scratch copy, and what came of every record."""

from __future__ import annotations

from pathlib import Path

import click

from meshlab.cli.migrate.options import jobs_option, loaded, plain, plan_argument, rate_option, write_page
from meshlab.cli.output import DAMAGE, FINE, Settings, arrow_rows, flush, format_option, say, write_json, write_rows
from meshlab.cli.units import with_sizes
from meshlab.errors import PlanRefused
from meshlab.wording import span_text

COLUMNS = (
    "uid",
    "records",
    "lost",
    "invented",
    "changed",
    "duplicated",
    "moved",
    "received",
    "bytes_written",
    "seconds",
    "error",
)


@click.command("rehearse")
@plan_argument
@click.option(
    "--scratch",
    metavar="DIR",
    type=click.Path(path_type=Path),
    help="Where to work; the copy goes when it is done.  [default: beside the data of the store]",
)
@click.option("--keep", is_flag=True, help="Leave the scratch copy for a look at it.")
@click.option("--html", metavar="FILE", type=click.Path(path_type=Path), help="Write the report as a page to look at.")
@jobs_option
@rate_option
@format_option
@click.pass_obj
def command(
    settings: Settings,
    plan_file: Path,
    scratch: Path | None,
    keep: bool,
    html: Path | None,
    jobs: int | None,
    limit_rate: float | None,
    fmt: str,
) -> None:
    """Carry out PLAN on a scratch copy and compare it with the source, record by record.

    It runs the code of 'migrate apply' and then reads both sides: memories that were
    lost, invented, changed (and in which field), duplicated, or moved to another user.
    The last line is the verdict, which is kept beside PLAN; 'migrate apply' asks for it.
    Exit code 2: the rehearsal failed.

    \b
      meshlab migrate rehearse plan.json --html rehearsal.html
    """
    from meshlab.migrate import rehearse
    from meshlab.migrate.report import rehearsal_page

    plan = loaded(settings, plan_file)
    try:
        report = rehearse(plan_file, scratch=scratch, keep=keep, jobs=jobs, limit_rate=limit_rate)
    except PlanRefused as error:
        say(f"{error.message} ({error.hint})")
        say("FAILED: nothing was rehearsed")
        raise click.exceptions.Exit(DAMAGE) from None
    if html is not None:
        write_page(rehearsal_page(report), html)
    if fmt == "json":
        write_json(plain(report))
    else:
        rows = [dict(row) for row in arrow_rows(report.table)]
        if fmt == "table":
            rows = with_sizes([{**row, "seconds": round(row["seconds"], 1)} for row in rows], ["bytes_written"])
        write_rows(rows, fmt, names=COLUMNS, limit=len(rows))
    for finding in report.findings:
        say(str(finding))
    say(f"it took {span_text(report.seconds)}; the plan had said {span_text(plan.seconds)}")
    say(report.verdict)
    flush()
    raise click.exceptions.Exit(FINE if report.passed else DAMAGE)
