"""A folder of the user's with the notebooks, the samples and the documents they refer to."""

from __future__ import annotations

import filecmp
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from meshlab.cli.sample import repository_folder
from meshlab.errors import storage_errors

PARTS = {"notebooks": "*.ipynb", "docs": "*.md", "data/samples": "**/*"}
"""What is copied, by folder of the repository; the notebooks find it where they do in the repository."""


class Workbench(NamedTuple):
    """Files to be copied: those that are not there, and those that are there and differ."""

    new: list[tuple[Path, Path]]
    differing: list[tuple[Path, Path]]


def look(folder: Path) -> Workbench:
    """What is to be copied into a folder, which need not exist."""
    bench = Workbench([], [])
    with storage_errors("read", folder):
        for source, target in _files(folder):
            if target.is_symlink():
                continue  # somebody's, wherever it leads
            if not target.exists():
                bench.new.append((source, target))
            elif not filecmp.cmp(source, target, shallow=False):
                bench.differing.append((source, target))
    return bench


def copy(pairs: list[tuple[Path, Path]], folder: Path) -> None:
    """Copy files, and make the folders they need."""
    with storage_errors("write", folder):
        for source, target in pairs:
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, target)


def _files(folder: Path) -> Iterator[tuple[Path, Path]]:
    for part, pattern in PARTS.items():
        origin = repository_folder(*part.split("/"))
        for source in sorted(origin.glob(pattern)):
            if source.is_file():
                yield source, folder / part / source.relative_to(origin)
