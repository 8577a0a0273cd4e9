"""Processes that build users in staging, one user at a time each.

A worker reads tasks as lines of JSON and answers with what it has written so far and
what came of the task.  It only ever works in staging: moving users is for the process
that started it.  When that one dies the pipe ends, and the worker with it.
"""

from __future__ import annotations

import os
import queue
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

import msgspec

from meshlab.errors import InternalError, MeshlabError
from meshlab.migrate.build import Built, Task, build_user, explain
from meshlab.migrate.pace import Bar, Pace, PacedFiles
from meshlab.migrate.plan import PlannedUser
from meshlab.wal.files import REAL_FILES
from meshlab.wal.writer import wall_clock

PROGRAM = (sys.executable, "-P", "-c", "from meshlab.migrate.workers import serve; serve()")
"""Without the current directory on the path of imports: an old store is no place for code to come from."""

_TELL = 0.2
"""Seconds between two words on how far it is."""

_LONGEST_MESSAGE = 500


class Terms(msgspec.Struct, frozen=True):
    """What all tasks of a worker have in common: the rate, the pause file, and where the rate is shared."""

    rate: float | None
    pause: str
    shared: str


class Word(msgspec.Struct, frozen=True):
    """What a worker says: bytes written since its last word, and in the end one of the others."""

    spent: int = 0
    built: Built | None = None
    error: str = ""
    hint: str = ""
    kind: str = ""


class Failed(MeshlabError):
    """A task that failed in a worker; ``kind`` is the name of the error there."""

    def __init__(self, message: str, *, hint: str | None = None, kind: str = "") -> None:
        super().__init__(message, hint=hint)
        self.kind = kind


class Worker:
    """One process.  Not for use by two threads at once, but for ``end``."""

    def __init__(self, terms: Terms) -> None:
        self._said: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 - closed by end
        self._process = subprocess.Popen(
            PROGRAM,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._said,
            env=_environment(),
            start_new_session=True,
        )
        self._send(terms)

    def run(self, task: Task, told: Callable[[int], object]) -> Built:
        """Have a user built.  Raises ``Failed``, also when the process ends."""
        self._send(task)
        assert self._process.stdout is not None
        for line in self._process.stdout:
            word = msgspec.json.decode(line, type=Word)
            told(word.spent)
            if word.built is not None:
                return word.built
            if word.error:
                raise Failed(word.error, hint=word.hint, kind=word.kind)
        raise Failed(f"{task.user.uid}: the process that built it ended: {self._last_words()}", hint=_ENDED)

    @property
    def runs(self) -> bool:
        """Whether the process is alive."""
        return self._process.poll() is None

    def end(self) -> None:
        """Kill the process, if it runs: what it was building is in staging only."""
        with suppress(ProcessLookupError):
            self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout, self._said):
            if pipe is not None:
                with suppress(OSError):
                    pipe.close()

    def _send(self, message: Terms | Task) -> None:
        assert self._process.stdin is not None
        with suppress(BrokenPipeError):  # it ended: reading its answer tells
            self._process.stdin.write(msgspec.json.encode(message) + b"\n")
            self._process.stdin.flush()

    def _last_words(self) -> str:
        code = self._process.wait()
        if code < 0:
            with suppress(ValueError):
                return f"by {signal.Signals(-code).name}"
        self._said.seek(0)
        text = " ".join(self._said.read().decode("utf-8", "backslashreplace").split())
        return text[-_LONGEST_MESSAGE:] or f"exit code {code}"


class Crew:
    """Worker processes, each driven by a thread of its own; a worker that ended is replaced."""

    def __init__(self, count: int, terms: Terms) -> None:
        self._terms = terms
        self._idle: list[Worker] = []
        self._all: list[Worker] = []
        self._pool = ThreadPoolExecutor(count, thread_name_prefix="migrate")
        self._closed = False

    def outcomes(self, tasks: Sequence[Task], bar: Bar) -> Iterator[tuple[PlannedUser, Any]]:
        """What came of each task, as they end; the largest are begun first."""
        ordered = sorted(tasks, key=lambda task: -task.user.bytes_to_read)
        waiting: dict[Future[Built], Task] = {self._pool.submit(self._run, task, bar): task for task in ordered}
        while waiting:
            for future in wait(waiting, return_when=FIRST_COMPLETED).done:
                task = waiting.pop(future)
                yield task.user, future.exception() or future.result()

    def _run(self, task: Task, bar: Bar) -> Built:
        worker = self._idle.pop() if self._idle else self._start()
        try:
            return worker.run(task, bar.counter(task.user))
        finally:
            if worker.runs:
                self._idle.append(worker)
            else:
                worker.end()

    def _start(self) -> Worker:
        if self._closed:
            raise MeshlabError("the migration was stopped", hint="run it again: it goes on where it was")
        worker = Worker(self._terms)
        self._all.append(worker)
        return worker

    def __enter__(self) -> Crew:
        return self

    def __exit__(self, *_: object) -> None:
        self._closed = True
        self._pool.shutdown(wait=False, cancel_futures=True)
        for worker in self._all:
            worker.end()
        self._pool.shutdown()


_ENDED = "nothing of this user was moved; look for a lack of memory, then run it again"


def _environment() -> dict[str, str]:
    """Ours; ``meshlab`` is the one this process was loaded from, wherever it runs."""
    here = str(Path(__file__).resolve().parents[2])
    return {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, [here, os.environ.get("PYTHONPATH")]))}


# The other side of the pipe


def serve() -> None:
    """Work on the tasks that come on stdin until it ends."""
    answers = os.fdopen(os.dup(1), "wb", buffering=0)
    os.dup2(2, 1)  # what a library may print is no answer
    lines = _lines()
    terms = msgspec.json.decode(lines.get(), type=Terms)
    _use_one_core()
    while True:
        task = msgspec.json.decode(lines.get(), type=Task)
        _answer(answers, _work(task, terms, answers))


def _lines() -> queue.Queue[bytes]:
    """The lines of stdin as they come; the process ends with them, whatever it is doing."""
    found: queue.Queue[bytes] = queue.Queue()

    def read() -> None:
        for line in sys.stdin.buffer:
            found.put(line)
        os._exit(1)

    threading.Thread(target=read, daemon=True).start()
    return found


def _use_one_core() -> None:
    """There are as many workers as are to be busy."""
    import pyarrow as pa

    from meshlab.tables.connection import borrow

    pa.set_cpu_count(1)
    borrow().execute("set threads = 1")


def _work(task: Task, terms: Terms, answers: IO[bytes]) -> Word:
    teller = _Teller(answers)
    pace = Pace(rate=terms.rate, pause=Path(terms.pause), shared=Path(terms.shared), told=teller.add)
    try:
        built = build_user(task, PacedFiles(REAL_FILES, pace), wall_clock)
    except Exception as error:  # whatever it is, it is this user's alone
        kind = error if isinstance(error, (MeshlabError, OSError, MemoryError)) else InternalError(_shown(error))
        message, hint = explain(kind)
        return Word(teller.waiting, error=message or type(error).__name__, hint=hint, kind=type(error).__name__)
    return Word(teller.waiting, built=built)


def _shown(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"


class _Teller:
    """Tells how far it is, now and then."""

    def __init__(self, answers: IO[bytes]) -> None:
        self.waiting, self._answers, self._last = 0, answers, time.monotonic()

    def add(self, count: int) -> None:
        self.waiting += count
        if time.monotonic() - self._last > _TELL:
            _answer(self._answers, Word(self.waiting))
            self.waiting, self._last = 0, time.monotonic()


def _answer(answers: IO[bytes], word: Word) -> None:
    answers.write(msgspec.json.encode(word) + b"\n")
