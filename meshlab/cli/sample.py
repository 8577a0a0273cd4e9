"""Stores to try things on: the sample in the repository, or one built on the spot."""

from __future__ import annotations

import shutil
from pathlib import Path

import meshlab
from meshlab.cli.output import say
from meshlab.errors import NotFound
from meshlab.wal.paths import PRIVATE
from meshlab.wording import counted

MARK = "built-by-meshlab-demo"


def repository_folder(*parts: str) -> Path:
    """A folder of the repository that this package was installed from.

    Raises ``NotFound`` when meshlab was installed without its repository.
    """
    folder = Path(meshlab.__file__).resolve().parents[1].joinpath(*parts)
    if not folder.is_dir():
        raise NotFound(
            f"{folder} is not there: sample data and notebooks are part of the repository, not of the package",
            hint="run this in a clone of the repository after 'make demo', or name your own folder",
        )
    return folder


def build_store(path: Path, events: int, users: int, days: int) -> Path:
    """Build a store at ``path``, in place of one that an earlier call built there.

    Anything else at ``path`` is left alone and stops the build.
    """
    from tqdm.auto import tqdm

    from meshlab.testing import builder

    if (path / PRIVATE / MARK).exists():
        shutil.rmtree(path)
    with tqdm(total=events, desc=f"building {path}", unit=" events", unit_scale=True, disable=None) as bar:
        built = builder.build_store(path, users=users, days=days, events=events, progress=bar.update)
    (path / PRIVATE).mkdir()
    (path / PRIVATE / MARK).touch()
    say(
        f"built {path}: {counted(built.events, 'event')} of {counted(len(built.users), 'user')}, {built.nbytes:,} bytes"
    )
    return path
