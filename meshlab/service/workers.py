"""Commands of the daemon as processes of their own: they may crash, hang or be killed alone.

A worker is ``meshlab checkpoint`` or ``meshlab vacuum`` for a few users, which says what
it did as rows of JSON.  It runs at a low priority, in a process group of its own, so
that Ctrl-C reaches the daemon alone.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Any, NamedTuple

import msgspec

from meshlab.service.priority import NICE

PROGRAM = (sys.executable, "-m", "meshlab")
KILLED_AFTER = 5.0
"""Seconds a worker that was asked to end gets before it is killed."""

_POLL = 0.05
_LONGEST_MESSAGE = 500


class Result(NamedTuple):
    """What one worker came to: the rows it wrote, by uid, and how it ended."""

    command: str
    uids: tuple[str, ...]
    rows: dict[str, dict[str, Any]]
    code: int
    seconds: float
    message: str = ""

    def unanswered(self) -> list[str]:
        """The users without a row, in order: the first was being worked on when it ended."""
        return [uid for uid in self.uids if uid not in self.rows]


class Worker:
    """One running process."""

    def __init__(self, store: Path, command: Sequence[str], uids: Sequence[str], program: Sequence[str]) -> None:
        self.command, self.uids = command[0], tuple(uids)
        self.started = time.monotonic()
        self.timed_out = False
        arguments = [*program, "--store", str(store), *command, "--format", "json", "--", *uids]
        with contextlib.ExitStack() as files:
            self._out = files.enter_context(tempfile.TemporaryFile())
            self._err = files.enter_context(tempfile.TemporaryFile())
            self.process = subprocess.Popen(
                arguments,
                stdin=subprocess.DEVNULL,
                stdout=self._out,
                stderr=self._err,
                env=_environment(),
                start_new_session=True,
            )
            files.pop_all()
        with contextlib.suppress(OSError):  # it ended already
            os.setpriority(os.PRIO_PROCESS, self.process.pid, NICE)

    @property
    def seconds(self) -> float:
        """How long it has been running."""
        return time.monotonic() - self.started

    def signal(self, number: int) -> None:
        """Send a signal to the process and all it started."""
        if self.process.poll() is None:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self.process.pid, number)

    def result(self) -> Result | None:
        """What it came to, or None while it runs."""
        code = self.process.poll()
        if code is None:
            return None
        rows, said = _rows(_content(self._out)), _content(self._err)
        message = "took too long" if self.timed_out else _message(said, code)
        return Result(self.command, self.uids, rows, code, self.seconds, message)


class Workers:
    """At most ``limit`` workers at once, each for at most ``timeout`` seconds."""

    def __init__(self, store: Path, limit: int, timeout: float, program: Sequence[str] = PROGRAM) -> None:
        self.store, self.limit, self.timeout, self.program = store, limit, timeout, program
        self.running: list[Worker] = []

    @property
    def free(self) -> int:
        """How many more may start."""
        return self.limit - len(self.running)

    def busy(self) -> set[str]:
        """The users at work."""
        return {uid for worker in self.running for uid in worker.uids}

    def start(self, command: Sequence[str], uids: Sequence[str]) -> None:
        """Start a command for these users.  Raises ``OSError`` when there is no room for a process."""
        self.running.append(Worker(self.store, command, uids, self.program))

    def finished(self) -> list[Result]:
        """The results of workers that ended; those over their time are made to end."""
        results, running = [], []
        for worker in self.running:
            result = worker.result()
            if result is not None:
                results.append(result)
                continue
            running.append(worker)
            if worker.seconds > self.timeout + KILLED_AFTER:
                worker.signal(signal.SIGKILL)
            elif worker.seconds > self.timeout and not worker.timed_out:
                worker.timed_out = True
                worker.signal(signal.SIGTERM)
        self.running = running
        return results

    def end(self, grace: float) -> list[Result]:
        """Let workers finish for ``grace`` seconds, then ask them to end, then kill them."""
        results = self._wait(grace)
        for number in (signal.SIGTERM, signal.SIGKILL):
            for worker in self.running:
                worker.signal(number)
            results += self._wait(KILLED_AFTER)
        return results

    def _wait(self, seconds: float) -> list[Result]:
        until, results = time.monotonic() + seconds, self.finished()
        while self.running and time.monotonic() < until:
            time.sleep(_POLL)
            results += self.finished()
        return results


def _environment() -> dict[str, str]:
    """That of the daemon; ``meshlab`` is the one the daemon was loaded from, wherever it runs."""
    here = str(Path(__file__).resolve().parents[2])
    return {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, [here, os.environ.get("PYTHONPATH")]))}


def _content(file: IO[bytes]) -> bytes:
    file.seek(0)
    with file:
        return file.read()


def _rows(data: bytes) -> dict[str, dict[str, Any]]:
    """Rows by uid of a JSON array with one row per line, also of one that was cut short.

    >>> _rows(b'[\\n{"uid":"ann","events":3}\\n,\\n{"uid":"bo')
    {'ann': {'uid': 'ann', 'events': 3}}
    """
    rows = {}
    for line in data.splitlines():
        try:
            row = msgspec.json.decode(line.strip(b"[,] "))
        except msgspec.DecodeError:
            continue
        if isinstance(row, dict) and isinstance(row.get("uid"), str):
            rows[row["uid"]] = row
    return rows


def _message(stderr: bytes, code: int) -> str:
    """Why a worker failed: its last words, or the signal that ended it."""
    if code < 0:
        with contextlib.suppress(ValueError):
            return f"ended by {signal.Signals(-code).name}"
    text = " ".join(stderr.decode("utf-8", "backslashreplace").split())
    return text.removeprefix("meshlab: error: ")[-_LONGEST_MESSAGE:] if code else ""
