"""``meshlab migrate``: users of older layouts into a store, one command per module."""

from __future__ import annotations

import click

from meshlab.cli.migrate import apply, finish, inspect, plan, rehearse, rollback, verify

STEPS = (inspect, plan, rehearse, apply, verify, rollback, finish)


@click.group("migrate")
def command() -> None:
    """Move users of older layouts into a store, with a way back.

    \b
      meshlab --store /srv/mesh migrate plan /srv/old --out plan.json
      meshlab migrate rehearse plan.json     the same on a scratch copy, compared record by record
      meshlab migrate apply plan.json        user by user; goes on where it was interrupted
      meshlab migrate verify plan.json       proof, at any time until finish
      meshlab migrate rollback plan.json     the old layout again, with what was written since
      meshlab migrate finish plan.json       nobody wants to go back any more

    The old files are never written before rollback, and never deleted but by
    'finish --delete-originals'.  docs/migration.md tells the whole story.
    """


for step in STEPS:
    command.add_command(step.command)
