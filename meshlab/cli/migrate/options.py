"""What the commands of a migration share: options, the plan they were given, and accepted damage."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from meshlab.cli.output import Settings, say
from meshlab.cli.units import Size

if TYPE_CHECKING:
    from meshlab.migrate.plan import Plan

DRY_RUN = "DRY RUN: nothing is written"

plan_argument = click.argument("plan_file", metavar="PLAN", type=click.Path(path_type=Path))
jobs_option = click.option(
    "--jobs", "-j", type=click.IntRange(1, 64), help="Users at once.  [default: the processors of this machine]"
)
rate_option = click.option(
    "--limit-rate", metavar="SIZE", type=Size(), help="Bytes written per second at most, all users together: 50MB."
)
accept_option = click.option(
    "--accept",
    metavar="UID/FILE:OFFSET",
    multiple=True,
    help="Leave out this damage for good, as the message names it (may be repeated).",
)
dry_run_option = click.option("--dry-run", is_flag=True, help="Say what would be done; write nothing.")


def loaded(settings: Settings, plan_file: Path) -> Plan:
    """The plan of a file; ``--store``, when given, must be the one it is for."""
    from meshlab.migrate.plan import read_plan

    plan = read_plan(plan_file)
    if settings.store is not None and Path(settings.store).absolute() != Path(plan.store):
        raise click.UsageError(f"--store is {settings.store}, and the plan is for {plan.store}: leave --store out")
    return plan


def write_page(page: str, path: Path) -> None:
    """Write an HTML page, over nothing but an earlier page."""
    from meshlab.errors import StorageError, storage_errors

    with storage_errors("write", path):
        if path.exists() and not path.read_bytes()[:15].lower().startswith(b"<!doctype html"):
            raise StorageError(f"{path}: expected nothing, or an earlier page, found another file", hint=_OTHER)
        path.write_text(page, encoding="utf-8")


_OTHER = "give another name"


def by_user(places: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """Accepted damage by uid.

    >>> by_user(["ann/wal-20250707.log:0", "ann/wal-20250708.log:12"])
    {'ann': ('wal-20250707.log:0', 'wal-20250708.log:12')}
    """
    found: dict[str, tuple[str, ...]] = {}
    for place in places:
        uid, slash, rest = place.partition("/")
        if not (uid and slash and rest):
            raise click.UsageError(f"--accept {place!r}: expected UID/FILE:OFFSET, as ann/wal-20250707.log:1234")
        found[uid] = (*found.get(uid, ()), rest)
    return found


def say_dry_run(dry_run: bool) -> None:
    """The first and the last word of a dry run."""
    if dry_run:
        say(DRY_RUN)


@contextmanager
def resumable() -> Iterator[None]:
    """Say what Ctrl-C means here."""
    try:
        yield
    except KeyboardInterrupt:
        say("interrupted: start it again, and it goes on where it was")
        raise


def say_pause(plan: Plan) -> None:
    """Why nothing seems to happen, when the pause file is there."""
    from meshlab.migrate.journal import place_of

    pause = place_of(plan.store, plan.id).pause
    if pause.exists():
        say(f"waiting while {pause} exists: delete it to go on")


def plain(value: Any) -> Any:
    """A report as JSON holds it: records by the names of their fields, paths as text.

    >>> from meshlab.migrate.sources.source import Problem
    >>> plain([Problem("ann", "is there already")])
    [{'where': 'ann', 'what': 'is there already', 'hint': ''}]
    """
    import msgspec

    if isinstance(value, msgspec.Struct):
        return {name: plain(getattr(value, name)) for name in value.__struct_fields__}
    if isinstance(value, tuple) and hasattr(value, "_asdict"):
        return {name: plain(item) for name, item in value._asdict().items()}
    if isinstance(value, dict):
        return {str(name): plain(item) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    return str(value) if isinstance(value, Path) else value
