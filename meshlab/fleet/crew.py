"""Who does the work: this process, processes of our own, any executor, or a Dask cluster.

Work that is lost with a worker (killed, out of memory, unplugged) is done again by
another.  What takes a worker with it twice is done alone from then on, so that it can
take nobody else's, and given up after it has done so twice more.

>>> with Crew(1) as crew:
...     list(crew.map(str.upper, ["a", "b"]))
['A', 'B']
"""

from __future__ import annotations

import os
import signal
import threading
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import (
    FIRST_COMPLETED,
    BrokenExecutor,
    CancelledError,
    Executor,
    Future,
    ProcessPoolExecutor,
    wait,
)
from contextlib import suppress
from functools import lru_cache
from multiprocessing import active_children
from multiprocessing.context import SpawnContext, SpawnProcess
from typing import Any, TypeVar

from meshlab.errors import MeshlabError

T = TypeVar("T")
R = TypeVar("R")

TOGETHER, ALONE = 2, 2
"""How often work may be lost among others, and then alone, before it is given up."""

_LOST = frozenset({"KilledWorker", "CommClosedError", "FutureCancelledError", "FuturesCancelledError"})
"""Errors of Dask that tell of a lost worker; by name, for Dask need not be there."""


class Lost(MeshlabError):
    """Work that took every worker with it that did it."""

    default_hint = "the worker was killed or ran out of memory: do this user alone, with fewer jobs, and look at memory"


class Crew:
    """Runs work for a fleet; an executor that was given is not closed.

    ``executor`` is a number of processes (None: one for each core), anything with the
    ``submit`` of ``concurrent.futures``, or a Dask ``Client``.
    """

    def __init__(self, executor: Any = None) -> None:
        self._given: Executor | None = None
        self.lost = 0
        self._on_dask = hasattr(executor, "get_executor")
        self._own: Executor | None = None
        if executor is None or isinstance(executor, int):
            self.jobs = cores() if executor is None else int(executor)
        elif hasattr(executor, "get_executor"):
            self._given = executor.get_executor(pure=False)
            self.jobs = max(1, sum(executor.nthreads().values()))
        elif hasattr(executor, "submit"):
            self._given = executor
            self.jobs = int(getattr(executor, "_max_workers", 0)) or cores()
        else:
            raise MeshlabError(
                f"{executor!r} can do no work", hint="give a number of processes, an executor, or a Dask client"
            )
        if self.jobs < 1:
            raise MeshlabError(f"{self.jobs} processes do no work", hint="give 1 or more")

    def each(self, work: Callable[[T], R], items: Iterable[T]) -> Iterator[tuple[T, R | Lost]]:
        """What ``work`` gives for each item, as soon as it is there, and ``Lost`` where no worker survives it.

        What ``work`` raises is raised here.
        """
        if self._on_dask:
            work = _OnDask(work)
        waiting, losses, doubtful = deque(items), Counter[int](), deque[T]()
        flying: dict[Future[R], T] = {}
        try:
            while waiting or flying:
                self._send(work, waiting, flying)
                for future in wait(flying, return_when=FIRST_COMPLETED).done:
                    item = flying.pop(future)
                    done, lost = self._result(future)
                    if not lost:
                        yield item, done
                        continue
                    losses[id(item)] += 1
                    (waiting if losses[id(item)] < TOGETHER else doubtful).append(item)
            for item in doubtful:
                yield item, self._alone(work, item)
        finally:
            for future in flying:
                future.cancel()

    def map(self, work: Callable[[T], R], items: Iterable[T]) -> Iterator[R]:
        """What ``work`` gives for each item, in order, as ``Executor.map``.  Raises ``Lost``."""
        numbered: list[tuple[int, T]] = list(enumerate(items))
        early: dict[int, R] = {}
        coming = self.each(_Numbered(work), numbered)
        for number in range(len(numbered)):
            while number not in early:
                item, done = next(coming)
                if isinstance(done, Lost):
                    raise done
                early[item[0]] = done
            yield early.pop(number)

    def close(self) -> None:
        """End the processes of our own."""
        if self._own is not None:
            self._own.shutdown(cancel_futures=True)
            self._own = None

    def __enter__(self) -> Crew:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is not None and not issubclass(kind, Exception):  # Ctrl-C: nobody waits for what is under way
            for worker in active_children():
                if isinstance(worker, _Worker):
                    worker.terminate()
        self.close()

    @property
    def _executor(self) -> Executor:
        if self._given is not None:
            return self._given
        if self._own is None:
            self._own = _Here() if self.jobs == 1 else _processes(self.jobs)
        return self._own

    @property
    def _window(self) -> int:
        """Tasks that are sent at once: enough to keep all busy, few enough to hold their answers."""
        return 1 if isinstance(self._executor, _Here) else 2 * self.jobs + 2

    def _send(self, work: Callable[[T], R], waiting: deque[T], flying: dict[Future[R], T]) -> None:
        while waiting and len(flying) < self._window:
            try:
                future = self._executor.submit(work, waiting[0])
            except BrokenExecutor:
                if flying:  # which are lost as well, and say so
                    return
                self._renew()
                continue
            flying[future] = waiting.popleft()

    def _result(self, future: Future[R]) -> tuple[Any, bool]:
        """The result of a future, and whether it was lost instead."""
        try:
            return future.result(), False
        except (BrokenExecutor, CancelledError):
            pass
        except Exception as error:
            if type(error).__name__ not in _LOST:
                raise
        self.lost += 1
        return None, True

    def _alone(self, work: Callable[[T], R], item: T) -> R | Lost:
        for _ in range(ALONE):
            flying: dict[Future[R], T] = {}
            self._send(work, deque([item]), flying)
            done, lost = self._result(next(iter(flying)))
            if not lost:
                return done
        return Lost(f"every worker that read it ended before it was done ({TOGETHER + ALONE} times)")

    def _renew(self) -> None:
        """A pool that lost a process is of no use any more; one that was given is replaced by one of our own."""
        self.close()
        self._given = None

    def __repr__(self) -> str:
        kind = type(self._given).__name__ if self._given is not None else "processes"
        return f"<Crew of {self.jobs} ({kind})>"


def connect(address: str) -> Any:
    """A client of the Dask scheduler at an address.  Raises ``MeshlabError`` when there is none, or no Dask."""
    try:
        from distributed import Client
    except ImportError:
        raise MeshlabError("Dask is not installed", hint="pip install 'meshlab[fleet]'") from None
    try:
        return Client(address, timeout=_PATIENCE, set_as_default=False)
    except (OSError, ValueError, TimeoutError) as error:
        raise MeshlabError(
            f"no Dask scheduler answers at {address}: {error}", hint="start one with 'dask scheduler', or use --jobs"
        ) from None


_PATIENCE = 10
"""Seconds a scheduler may take to answer."""


class _Numbered:
    """Work on the second of a pair."""

    def __init__(self, work: Callable[[Any], Any]) -> None:
        self.work = work

    def __call__(self, item: tuple[int, Any]) -> Any:
        return self.work(item[1])


class _OnDask:
    """Work that takes no more threads than the worker of Dask has that does it."""

    def __init__(self, work: Callable[[Any], Any]) -> None:
        self.work = work

    def __call__(self, item: Any) -> Any:
        from distributed import get_worker

        with suppress(ValueError):  # the cluster is gone, and a process of our own does it
            _limit_once(get_worker().state.nthreads, os.getpid())
        return self.work(item)


class _Here(Executor):
    """No process but this one."""

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """Done when it returns."""
        future: Future[Any] = Future()
        try:
            future.set_result(fn(*args, **kwargs))
        except Exception as error:
            future.set_exception(error)
        return future


def cores() -> int:
    """Processors this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _processes(jobs: int) -> ProcessPoolExecutor:
    threads = max(1, cores() // jobs)
    return ProcessPoolExecutor(jobs, mp_context=_Quiet(), initializer=limit_threads, initargs=(threads,))


class _Worker(SpawnProcess):
    """A process that Ctrl-C does not reach: whoever asked for its work ends it."""

    def start(self) -> None:
        """From the main thread, for only there signals can be turned off; a child starts with what it inherits."""
        if threading.current_thread() is not threading.main_thread():
            super().start()
            return
        before = signal.signal(signal.SIGINT, signal.SIG_IGN)
        try:
            super().start()
        finally:
            signal.signal(signal.SIGINT, before)


class _Quiet(SpawnContext):
    Process = _Worker


@lru_cache(maxsize=1)
def _limit_once(threads: int, process: int) -> None:
    limit_threads(threads)


def limit_threads(threads: int) -> None:
    """Threads that Arrow and DuckDB use in this process."""
    import pyarrow as pa

    from meshlab.tables.connection import borrow

    pa.set_cpu_count(threads)
    borrow().execute(f"set threads = {threads}")
