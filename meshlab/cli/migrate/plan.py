"""``meshlab migrate plan``: what a migration would do, for whom, and what stands in its way."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from meshlab.cli.migrate.inspect import USER_HELP, USERS_HELP, given, say_problems
from meshlab.cli.migrate.options import accept_option, by_user, plain, write_page
from meshlab.cli.output import DAMAGE, FINE, Row, Settings, flush, format_option, say, write_json, write_rows
from meshlab.cli.units import with_sizes
from meshlab.wording import counted, size_text, span_text

if TYPE_CHECKING:
    from meshlab.migrate.plan import Plan, PlannedUser

COLUMNS = ("uid", "kind", "files", "bytes", "records", "to_write", "time", "state_hash", "notes")


@click.command("plan")
@click.argument("source", required=False, type=click.Path(path_type=Path))
@click.option("--user", metavar="UID", help=USER_HELP)
@click.option("--users", metavar="MAP.csv", type=click.Path(path_type=Path), help=USERS_HELP)
@accept_option
@click.option("--out", "-o", metavar="FILE", type=click.Path(path_type=Path), help="Save the plan, as JSON.")
@click.option("--html", metavar="FILE", type=click.Path(path_type=Path), help="Write it as a page to look at.")
@format_option
@click.pass_obj
def command(
    settings: Settings,
    source: Path | None,
    user: str | None,
    users: Path | None,
    accept: tuple[str, ...],
    out: Path | None,
    html: Path | None,
    fmt: str,
) -> None:
    """Read SOURCE and say what a migration into the store would do.

    SOURCE is a mesh_snapshot.bin (with --user), a phase-1 store, a folder of scoped
    logs, or JSON exports; it is only read, and so is the store.  For every user: files
    with size and SHA-256, records, the state hash they must come to, bytes to write and
    the time it takes at the speed measured here.  Exit code 2: something stands in the
    way, so that the plan cannot be carried out.

    \b
      meshlab migrate plan old/mesh_snapshot.bin --user ann --out plan.json
      meshlab --store /srv/mesh migrate plan /mesh_store --out plan.json
      meshlab migrate plan --users files.csv --out plan.json --html plan.html
    """
    from meshlab.migrate import make_plan
    from meshlab.migrate.report import plan_page

    source = given(source, user, users)
    plan = make_plan(source, settings.store, user=user, users=users, accept=by_user(accept))
    if out is not None:
        plan.save(out)
    if html is not None:
        write_page(plan_page(plan), html)
    if fmt == "json":
        write_json(plain(plan))
    elif plan.users or fmt == "csv":  # of a plan without users the problems say it all
        rows = [_row(one) for one in plan.users]
        write_rows(_shown(plan) if fmt == "table" else rows, fmt, names=COLUMNS, limit=len(rows))
    _say(plan, out)
    flush()
    raise click.exceptions.Exit(DAMAGE if plan.problems else FINE)


def _row(user: PlannedUser) -> Row:
    return {
        "uid": user.uid,
        "kind": user.kind,
        "files": len(user.inputs),
        "bytes": sum(one.size for one in user.inputs),
        "records": user.records,
        "to_write": user.bytes_to_write,
        "time": user.seconds,
        "state_hash": user.state_hash,
        "notes": "; ".join(user.notes),
    }


def _shown(plan: Plan) -> list[Row]:
    rows = [{**_row(user), "time": span_text(user.seconds), "state_hash": user.state_hash[:8]} for user in plan.users]
    return [
        *with_sizes(
            [{**row, "notes": len(user.notes) or None} for row, user in zip(rows, plan.users, strict=True)],
            ["bytes", "to_write"],
        )
    ]


def _say(plan: Plan, out: Path | None) -> None:
    for user in plan.users:
        for note in user.notes:
            say(f"note: {user.uid}: {note}")
    say_problems(plan.problems, plan.left)
    records = sum(user.records for user in plan.users)
    read = sum(one.size for user in plan.users for one in user.inputs)
    say(
        f"{counted(len(plan.users), 'user')}, {counted(records, 'record')}, {size_text(read)} to read, "
        f"{size_text(plan.bytes_to_write)} to write, about {span_text(plan.seconds)}; "
        f"{size_text(plan.free_needed)} of disk needed, {size_text(plan.free)} free"
    )
    if plan.problems:
        say(f"this plan cannot be carried out: {counted(len(plan.problems), 'problem')}")
    elif out is None:
        say("not saved: --out plan.json does, for 'meshlab migrate rehearse plan.json'")
    else:
        say(f"saved; next: meshlab migrate rehearse {out}")
