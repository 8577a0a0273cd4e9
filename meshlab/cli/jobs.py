"""Users read side by side: ``--jobs``."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Executor, ProcessPoolExecutor
from contextlib import contextmanager
from multiprocessing import get_context

import click

jobs_option = click.option(
    "--jobs", type=click.IntRange(1), default=1, show_default=True, help="Processes that read users side by side."
)
"""Give a command ``--jobs``."""


@contextmanager
def executor(jobs: int) -> Iterator[Executor | None]:
    """That many processes; none for one job."""
    if jobs == 1:
        yield None
        return
    with ProcessPoolExecutor(jobs, mp_context=get_context("spawn")) as pool:
        yield pool
