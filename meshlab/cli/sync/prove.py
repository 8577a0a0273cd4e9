"""``meshlab sync prove``: restore to scratch, replay, compare."""

from __future__ import annotations

from typing import Any

import click

from meshlab.cli.jobs import fleet, jobs_option, say_failed, workers
from meshlab.cli.output import DAMAGE, ERROR, FINE, Settings, flush, format_option, say, write_rows
from meshlab.cli.sync.options import (
    chosen,
    counts_of,
    opened,
    plain,
    remote_option,
    say_problems,
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
@jobs_option
@format_option
@click.pass_obj
def command(
    settings: Settings,
    uids: tuple[str, ...],
    url: str,
    image: str | None,
    jobs: int,
    dask: str | None,
    fmt: str,
) -> None:
    """Restore each UID, or all users of the bucket, to scratch, replay, and compare state hashes.

    The records of the newest checkpoint are compared with what it said when it was made,
    the whole state with that of the store, where the user is in it.  Exit codes:
    0 all proved, 1 one failed, 2 one is inconclusive: the bucket did not answer, or there
    was nothing to compare with.

    \b
      meshlab sync prove --remote s3://backups/mesh ann
    """
    give_way()
    with workers(jobs, dask) as hands:
        if hands is not None and image is not None:
            raise click.UsageError("--image is of one user: leave out --jobs and --dask")
        ships = fleet(settings, hands)
        proofs = None if ships is None else ships.prove(_of_bucket(settings, url, uids), remote=url)
    if proofs is None:
        report = opened(settings, url).prove(chosen(uids), image=image)
    else:
        report = _report(url, proofs)
        say_failed(proofs)
    if fmt == "json":
        write_report(report)
    else:
        rows = [plain(user) for user in report.users]
        if fmt == "table":
            short = [{**row, "state_hash": row["state_hash"][:8], "seconds": round(row["seconds"], 2)} for row in rows]
            rows = with_sizes([{**row, "compared": ", ".join(row["compared"])} for row in short], ["bytes"])
        write_rows(rows, fmt, names=COLUMNS if fmt == "csv" else COLUMNS[:-1])
    say_problems(report)
    for user in report.users:
        if user.reason:
            say(f"{user.outcome}: {user.uid}: {user.reason}" + (f" ({user.hint})" if user.hint else ""))
    counts = counts_of(report.users, "outcome")
    say_traffic(report, ", ".join(f"{count:,} {outcome}" for outcome, count in counts.items()) or "nothing to prove")
    flush()
    lost = proofs is not None and proofs.failed.num_rows
    code = ERROR if "failed" in counts or lost else DAMAGE if "inconclusive" in counts or not counts else FINE
    raise click.exceptions.Exit(code)


def _of_bucket(settings: Settings, url: str, uids: tuple[str, ...]) -> list[str]:
    return chosen(uids) or opened(settings, url).users()


def _report(url: str, run: Any) -> Any:
    """The proofs of several workers as the report of one."""
    from meshlab.remote.patience import Traffic
    from meshlab.remote.prove import ProvedUser
    from meshlab.remote.remote import Report

    rows = [row for row in run.to_pylist() if row["ok"]]
    users = [
        ProvedUser(
            hint=row["advice"],
            compared=row["compared"].split(", ") if row["compared"] else [],
            **{name: row[name] for name in ("uid", "outcome", "reason", "image", "state_hash", "records")},
            **{name: row[name] for name in ("bytes", "seconds")},
        )
        for row in rows
    ]
    traffic = Traffic(**{name: sum(row[name] for row in rows) for name in Traffic._fields})
    return Report(url=url, users=users, traffic=traffic, seconds=run.course.seconds)
