"""``meshlab sync prove``: restore to scratch, replay, compare."""

from __future__ import annotations

import click

from meshlab.cli.output import DAMAGE, ERROR, FINE, Settings, flush, format_option, say, write_rows
from meshlab.cli.sync.options import (
    chosen,
    counts_of,
    opened,
    plain,
    remote_option,
    say_traffic,
    uids_argument,
    write_report,
)
from meshlab.cli.units import with_sizes
from meshlab.service.priority import give_way

COLUMNS = ("uid", "outcome", "image", "records", "bytes", "compared", "state_hash", "seconds", "reason")


@click.command("prove")
@uids_argument
@remote_option
@click.option("--image", metavar="SHA256", help="Prove this image (its first digits will do) instead of the newest.")
@format_option
@click.pass_obj
def command(settings: Settings, uids: tuple[str, ...], url: str, image: str | None, fmt: str) -> None:
    """Restore each UID, or all users of the bucket, to scratch, replay, and compare state hashes.

    The records of the newest checkpoint are compared with what it said when it was made,
    the whole state with that of the store, where the user is in it.  Exit codes:
    0 all proved, 1 one failed, 2 one is inconclusive: the bucket did not answer, or there
    was nothing to compare with.

    \b
      meshlab sync prove --remote s3://backups/mesh ann
    """
    give_way()
    report = opened(settings, url).prove(chosen(uids), image=image)
    if fmt == "json":
        write_report(report)
    else:
        rows = [plain(user) for user in report.users]
        if fmt == "table":
            short = [{**row, "state_hash": row["state_hash"][:8], "seconds": round(row["seconds"], 2)} for row in rows]
            rows = with_sizes([{**row, "compared": ", ".join(row["compared"])} for row in short], ["bytes"])
        write_rows(rows, fmt, names=COLUMNS if fmt == "csv" else COLUMNS[:-1])
    for user in report.users:
        if user.reason:
            say(f"{user.outcome}: {user.uid}: {user.reason}" + (f" ({user.hint})" if user.hint else ""))
    counts = counts_of(report.users, "outcome")
    say_traffic(report, ", ".join(f"{count:,} {outcome}" for outcome, count in counts.items()) or "nothing to prove")
    flush()
    code = ERROR if "failed" in counts else DAMAGE if "inconclusive" in counts or not counts else FINE
    raise click.exceptions.Exit(code)
