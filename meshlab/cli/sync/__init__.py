"""``meshlab sync``: the store in an object store, one command per module."""

from __future__ import annotations

import click

from meshlab.cli.sync import prove, pull, push, retain, status, windows

STEPS = (push, pull, prove, status, windows, retain)


@click.group("sync")
def command() -> None:
    """Keep the store in an object store, restore users from it, and prove that it works.

    \b
      export MESH_REMOTE=s3://backups/mesh     or file:///mnt/backups/mesh
      meshlab sync push                        what is new; --watch goes on for ever
      meshlab sync status                      what is there, and what is not yet
      meshlab sync prove                       restore to scratch, replay, compare
      meshlab --store new sync pull ann        from the bucket alone; --at for a moment
      meshlab sync retain                      what no moment needs; --apply deletes it

    Access keys for S3 come from the environment: AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY,
    AWS_REGION, AWS_ENDPOINT_URL.  docs/remote.md tells the whole story.
    """


for step in STEPS:
    command.add_command(step.command)
