"""Users worked on side by side: ``--jobs`` and ``--dask``, and stores in a bucket."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NoReturn

import click

from meshlab.cli.output import DAMAGE, ERROR, FINE, Settings, flush, say_error

BUCKETS = ("s3://", "file://")


def jobs_option(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command ``--jobs`` and ``--dask``."""
    jobs = click.option(
        "--jobs", type=click.IntRange(1), default=1, show_default=True, help="Processes that do users side by side."
    )
    dask = click.option(
        "--dask", metavar="ADDRESS", help="A Dask scheduler whose workers do it instead: tcp://HOST:8786."
    )
    return jobs(dask(command))


@contextmanager
def workers(jobs: int, dask: str | None) -> Iterator[Any]:
    """Who does it, as ``Crew`` takes it: a Dask client, a number of processes; None for this process alone."""
    if dask is None:
        yield None if jobs == 1 else jobs
        return
    if jobs != 1:
        raise click.UsageError("--jobs and --dask exclude each other")
    from meshlab.fleet.crew import connect

    with connect(dask) as client:
        yield client


@contextmanager
def crew(jobs: int, dask: str | None) -> Iterator[Any]:
    """The same as something with the ``map`` of an executor, in which no work is lost with a worker."""
    from meshlab.fleet.crew import Crew

    with workers(jobs, dask) as hands:
        if hands is None:
            yield None
            return
        with Crew(hands) as made:
            yield made


def fleet(settings: Settings, hands: Any) -> Any:
    """A fleet over the store, when it is in a bucket or somebody else does the work; else None."""
    where = settings.store or ""
    bucket = where.startswith(BUCKETS)
    if hands is None and not bucket:
        return None
    from meshlab.fleet.fleet import Fleet

    return Fleet(where if bucket else settings.open().path, 1 if hands is None else hands)


def check_named(uids: tuple[str, ...], everyone: bool) -> None:
    """Of a command that changes users: they are named, or ``--all`` is given."""
    if bool(uids) == everyone:
        raise click.UsageError("name users, or give --all" if not uids else "--all and UIDs exclude each other")


def say_failed(run: Any) -> None:
    """What went wrong with each user, and what to do."""
    for row in run.failed.to_pylist():
        say_error(f"{row['uid']}: {row['message']}", row["hint"])


def finish_run(run: Any, *, damage: bool) -> NoReturn:
    """End the command: 1 when somebody failed, 2 when there is damage."""
    flush()
    raise click.exceptions.Exit(ERROR if run.failed.num_rows else DAMAGE if damage else FINE)
