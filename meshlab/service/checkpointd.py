"""The checkpoint daemon: looks at a store again and again, and checkpoints who is due.

    scan      every ``interval`` seconds: names and sizes of each user's files (``scan``)
    choose    who is due, in which order, under which budget (``policy``)
    work      ``meshlab checkpoint`` in a few processes of low priority (``workers``)

It writes nothing itself but its lock, never upgrades a phase-1 snapshot and accepts no
damage: those are for a person.  A daemon that was killed leaves nothing to mend; a
checkpoint that it was running ends by itself.
"""

from __future__ import annotations

import fcntl
import logging
import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from meshlab.errors import CheckpointBusy, MeshlabError, storage_errors
from meshlab.service import policy
from meshlab.service.policy import DAY, HOUR, MIB, Backlog, Backoff, Ranked, Rates, Thresholds, Trouble
from meshlab.service.scan import Scanner
from meshlab.service.workers import PROGRAM, Result, Workers
from meshlab.wal.files import open_regular
from meshlab.wal.paths import PRIVATE, user_ids

LOCK = "checkpointd.lock"
CHECKPOINT, VACUUM = "checkpoint", "vacuum"

_POLL = 0.2
"""Seconds between two looks at the workers."""

_IDLE = 1.0
"""Seconds between two looks at the budget when there are none."""


class Options(NamedTuple):
    """What an operator may set."""

    interval: float = 60.0
    workers: int = 1
    thresholds: Thresholds = Thresholds()
    per_hour: float | None = None
    backoff: Backoff = Backoff()
    batch: int = 16
    """Users with little to fold that one process takes, which spares starting one for each."""

    batch_bytes: int = 16 * MIB
    timeout: float = HOUR
    grace: float = 5.0
    vacuum: bool = False
    vacuum_every: float = DAY


DEFAULTS = Options()


class Due(NamedTuple):
    """A user who is due, the thresholds that say so, and the place in the order."""

    ranked: Ranked
    reasons: tuple[str, ...]


class Memory:
    """What the daemon remembers between rounds: nothing that a restart may not forget."""

    def __init__(self) -> None:
        self.rates = Rates()
        self.waiting: dict[str, float] = {}
        self.trouble: dict[str, Trouble] = {}
        self.problems: dict[str, str] = {}
        self.vacuumed: dict[str, float] = {}
        self.looked_at: dict[str, int] = {}
        """Unfolded bytes when a user was last started."""
        self.barren: dict[str, int] = {}
        """Unfolded bytes of which nothing can be folded, such as a torn tail."""

    def is_barren(self, log: Backlog) -> bool:
        """Whether the last checkpoint found nothing to fold, and nothing was added since."""
        if self.barren.get(log.uid) == log.unfolded:
            return True
        self.barren.pop(log.uid, None)
        return False

    def keep_only(self, uids: set[str]) -> None:
        """Forget the users who are no more."""
        tables: tuple[dict[str, Any], ...] = (
            self.waiting,
            self.trouble,
            self.problems,
            self.vacuumed,
            self.looked_at,
            self.barren,
        )
        for table in tables:
            for uid in table.keys() - uids:
                del table[uid]


class Daemon:
    """One store and its checkpoints.  ``stop`` may be called from a signal handler."""

    def __init__(
        self,
        store: Path,
        options: Options = DEFAULTS,
        *,
        logger: logging.Logger | None = None,
        now: Callable[[], float] = time.time,
        steady: Callable[[], float] = time.monotonic,
        program: tuple[str, ...] = PROGRAM,
    ) -> None:
        self.store, self.options = store, options
        self.memory = Memory()
        self.scanner = Scanner(store)
        self.workers = Workers(store, options.workers, options.timeout, program)
        self.queue: list[Ranked] = []
        self.vacuums: list[str] = []
        self.failed = False
        self.bucket = policy.full_bucket(options.per_hour, steady()) if options.per_hour is not None else None
        self._costs: dict[str, int] = {}
        self._logger = logger or logging.getLogger("meshlab.checkpointd")
        self._now, self._steady = now, steady
        self._stop = threading.Event()
        self._short_of_budget = ""

    def run(self, *, once: bool = False) -> bool:
        """Serve until ``stop``, or for one round; returns whether all went well.

        Raises ``CheckpointBusy`` when the store has a daemon, ``NotFound`` without a store.
        """
        with daemon_lock(self.store):
            self._log("started", store=str(self.store), pid=os.getpid(), workers=self.options.workers)
            try:
                self._serve(once)
            finally:
                for result in self.workers.end(self.options.grace):
                    self._take(result)
                self._log("stopped")
        return not self.failed

    def stop(self) -> None:
        """End soon: start nothing more; workers get ``grace`` seconds."""
        self._stop.set()

    def wall_time(self) -> float:
        """Seconds since 1970."""
        return self._now()

    def due(self) -> list[Due]:
        """One look at the store: who is due now, in the order of service."""
        now, steady, memory = self._now(), self._steady(), self.memory
        logs, reasons, problems, stale, seen = [], {}, {}, [], set()
        for found in self.scanner.scan(now):
            log = found.backlog
            seen.add(log.uid)
            if found.problem:
                problems[log.uid] = found.problem
                continue
            if found.vacuum:
                stale.append(log.uid)
            if memory.is_barren(log):
                continue
            if why := policy.reasons(log, self.options.thresholds, memory.rates, now):
                logs.append(log)
                reasons[log.uid] = why
        memory.waiting = {uid: memory.waiting.get(uid, steady) for uid in reasons}
        memory.keep_only(seen)
        self._say_problems(problems)
        self.vacuums = self._vacuums_due(stale, steady)
        ranked = policy.rank(logs, memory.waiting, memory.rates, steady)
        return [Due(one, reasons[one.uid]) for one in ranked]

    def _serve(self, once: bool) -> None:
        next_round = self._steady()
        while not self._stop.is_set():
            for result in self.workers.finished():
                self._take(result)
            if self._steady() >= next_round:
                next_round = float("inf") if once else self._steady() + self.options.interval
                self._round()
            self._start_checkpoints()
            self._start_vacuums()
            if once and not self.workers.running:
                return
            wait = _POLL if self.workers.running else min(_IDLE, next_round - self._steady())
            self._stop.wait(max(0.0, wait))

    def _round(self) -> None:
        """Look at the store and make the order in which users are served until the next look."""
        began = time.perf_counter()
        try:
            found = self.due()
        except MeshlabError as error:
            self.failed = True
            self._log("scan failed", logging.ERROR, error=error.message, hint=error.hint)
            return
        busy, steady = self.workers.busy(), self._steady()
        ready = [one for one in found if self._is_ready(one.ranked.uid, steady) and one.ranked.uid not in busy]
        self.queue = [one.ranked for one in ready]
        self.vacuums = [uid for uid in self.vacuums if uid not in busy]
        seconds = round(time.perf_counter() - began, 3)
        self._log("scan", logging.DEBUG, due=len(found), ready=len(ready), seconds=seconds)

    def _is_ready(self, uid: str, steady: float) -> bool:
        return self.memory.trouble.get(uid, Trouble()).until <= steady

    def _start_checkpoints(self) -> None:
        """Start the first in the order while there is room and budget."""
        while self.workers.free and self.queue:
            if self.bucket is not None:
                self.bucket = policy.refill(self.bucket, self._steady())
            chosen, self.bucket = policy.choose(self._batch(), self.bucket, self.options.batch)
            if not chosen:
                self._say_short(self.queue[0])
                return
            self.queue = self.queue[len(chosen) :]
            for one in chosen:
                self._costs[one.uid] = one.cost
                self.memory.looked_at[one.uid] = one.backlog.unfolded
            self._launch([CHECKPOINT], [one.uid for one in chosen])

    def _start_vacuums(self) -> None:
        """They write next to nothing, so they need no budget, only room."""
        while self.workers.free and self.vacuums:
            uid = self.vacuums.pop(0)
            self.memory.vacuumed[uid] = self._steady()
            self._launch([VACUUM, "--apply"], [uid])

    def _batch(self) -> list[Ranked]:
        """The next of the order that one process takes: many with little, or one with much."""
        total, batch = 0, list[Ranked]()
        for one in self.queue[: self.options.batch]:
            total += one.backlog.unfolded
            if batch and total > self.options.batch_bytes:
                break
            batch.append(one)
        return batch

    def _launch(self, command: list[str], uids: list[str]) -> None:
        try:
            self.workers.start(command, uids)
        except OSError as error:
            for uid in uids:
                self._fail(uid, command[0], str(error.strerror or error))
            return
        self._log("begin", logging.DEBUG, command=command[0], uids=uids)

    def _take(self, result: Result) -> None:
        """Note what a worker came to, user by user."""
        for uid, row in result.rows.items():
            if row.get("error"):
                self._fail(uid, result.command, str(row["error"]), kind=row.get("kind"))
            else:
                self._succeed(uid, result.command, row)
        unanswered = result.unanswered()
        for uid in unanswered[:1]:
            self._fail(uid, result.command, result.message or f"ended with {result.code} and no result")
        for uid in unanswered:
            self._settle(uid, 0)

    def _succeed(self, uid: str, command: str, row: Mapping[str, Any]) -> None:
        self.memory.trouble.pop(uid, None)
        if command == VACUUM:
            self._log("vacuum", uid=uid, **_told(row, "generation", "bytes_freed", "ledger"))
            return
        folded, written = int(row.get("bytes_folded") or 0), int(row.get("bytes_written") or 0)
        self.memory.rates = policy.learn(
            self.memory.rates, folded=folded, seconds=float(row.get("seconds") or 0), written=written
        )
        self._settle(uid, written)
        self.memory.waiting.pop(uid, None)
        if not folded and uid in self.memory.looked_at:
            self.memory.barren[uid] = self.memory.looked_at[uid]
        self._log(
            "checkpoint",
            uid=uid,
            **_told(row, "generation", "events", "records", "bytes_folded", "bytes_written", "seconds"),
        )

    def _fail(self, uid: str, command: str, error: str, *, kind: str | None = None) -> None:
        self._settle(uid, 0)
        if self._stop.is_set():
            self._log("interrupted", uid=uid, command=command)
            return
        self.failed = True
        steady = self._steady()
        trouble = policy.after_failure(self.memory.trouble.get(uid, Trouble()), uid, steady, self.options.backoff)
        self.memory.trouble[uid] = trouble
        self._log(
            "failed",
            logging.WARNING,
            uid=uid,
            command=command,
            **({"kind": kind} if kind else {}),
            error=error,
            failures=trouble.failures,
            retry_in=round(trouble.until - steady, 1),
        )

    def _settle(self, uid: str, written: int) -> None:
        """Charge the budget what was written instead of what had been expected."""
        cost = self._costs.pop(uid, None)
        if cost is not None and self.bucket is not None:
            self.bucket = policy.take(self.bucket, written - cost)

    def _vacuums_due(self, stale: list[str], steady: float) -> list[str]:
        """Users whose turn it is; the first turns after a start are spread over the period."""
        if not self.options.vacuum:
            return []
        every = self.options.vacuum_every
        for uid in stale:
            self.memory.vacuumed.setdefault(uid, steady - every * policy.spread(uid))
        turn = [uid for uid in stale if steady - self.memory.vacuumed[uid] >= every]
        return [uid for uid in turn if self._is_ready(uid, steady)]

    def _say_problems(self, problems: dict[str, str]) -> None:
        """Each problem once, and once that it is over."""
        for uid, problem in problems.items():
            if self.memory.problems.get(uid) != problem:
                self._log("skipped", logging.WARNING, uid=uid, reason=problem)
        for uid in self.memory.problems.keys() - problems.keys():
            self._log("resumed", uid=uid)
        self.memory.problems = problems

    def _say_short(self, first: Ranked) -> None:
        if self._short_of_budget != first.uid:
            tokens = round(self.bucket.tokens) if self.bucket else 0
            self._log("waiting for budget", uid=first.uid, needs=first.cost, has=tokens, due=len(self.queue))
        self._short_of_budget = first.uid

    def _log(self, event: str, level: int = logging.INFO, **fields: Any) -> None:
        self._logger.log(level, event, extra={"fields": fields})


@contextmanager
def daemon_lock(store: Path, name: str = LOCK, what: str = "checkpoint daemon") -> Iterator[None]:
    """Hold the store for one daemon of a kind.  Raises ``CheckpointBusy`` when another has it."""
    user_ids(store)
    path = store / PRIVATE / name
    with storage_errors("create", path):
        path.parent.mkdir(exist_ok=True)
        fd = open_regular(path, os.O_RDWR | os.O_CREAT)
    try:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            other = os.pread(fd, 20, 0).decode("ascii", "replace").strip() or "unknown"
            raise CheckpointBusy(
                f"{store} has a {what} already (process {other})",
                hint="one daemon serves a whole store: stop that one first",
            ) from None
        os.ftruncate(fd, 0)
        os.pwrite(fd, b"%d\n" % os.getpid(), 0)
        yield
    finally:
        os.close(fd)


def _told(row: Mapping[str, Any], *names: str) -> dict[str, Any]:
    return {name: row[name] for name in names if name in row}
