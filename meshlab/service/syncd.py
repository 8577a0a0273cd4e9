"""The push daemon: the store into a bucket again and again, and a proof now and then.

    push     every ``interval`` seconds, who has changed; who fails waits, longer each time
    prove    the user whose proof is the oldest, under a budget of bytes per hour

It holds no lock that a writer waits for but ``wal.lock`` for the moment in which sizes
are noted, runs at low priority, and keeps nothing that a restart may not forget: what
was pushed is told by the bucket, how proofs went by the notes.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any, NamedTuple

from meshlab.errors import MeshlabError, StorageError
from meshlab.remote.notes import Notes
from meshlab.remote.prove import PROVED
from meshlab.remote.push import BEHIND, FAILED, PUSHED, PushedUser
from meshlab.remote.remote import Remote
from meshlab.remote.status import lag_of
from meshlab.service import policy
from meshlab.service.checkpointd import daemon_lock
from meshlab.service.policy import Backoff, Trouble
from meshlab.times import SECOND
from meshlab.wal.paths import user_ids

LOCK = "syncd.lock"
GIB = 1 << 30


class Options(NamedTuple):
    """What an operator may set.

    Seconds between two rounds; bytes per hour that proofs may read (None: no proofs), and
    seconds after which a user is proved again.
    """

    interval: float = 60.0
    prove_per_hour: float | None = GIB
    prove_every: float = policy.DAY
    backoff: Backoff = Backoff()


DEFAULTS = Options()


class Metrics(NamedTuple):
    """Plain numbers for whoever watches the daemon.

    ``lag_bytes`` and ``lag_seconds`` are what losing the disk would lose of users whose last
    push did not go through: the sum, and the longest wait.  ``users_…`` count users by what the last round found.
    ``last_push``, ``last_proven_restore`` (the newest proof that held) and
    ``oldest_proven_restore`` (that of the user who has waited longest) are seconds since
    1970, 0 for never.  What ends in ``_total`` only grows.
    """

    lag_bytes: int
    lag_seconds: float
    users: int
    users_failed: int
    users_forked: int
    users_behind: int
    last_push: float
    last_proven_restore: float
    oldest_proven_restore: float
    proofs_failed: int
    pushed_bytes_total: int
    requests_total: int
    retries_total: int


class SyncDaemon:
    """One store and its bucket.  ``stop`` may be called from a signal handler.

    ``tell`` gets the numbers after every round, also of one that found the bucket out of reach.
    """

    def __init__(
        self,
        remote: Remote,
        options: Options = DEFAULTS,
        *,
        logger: logging.Logger | None = None,
        tell: Callable[[Metrics], object] | None = None,
        now: Callable[[], float] = time.time,
        steady: Callable[[], float] = time.monotonic,
    ) -> None:
        self.remote, self.store, self.options = remote, remote.store, options
        self.failed = False
        self._trouble: dict[str, Trouble] = {}
        self._last: dict[str, PushedUser] = {}
        self._outage = Trouble()
        self._last_push = 0.0
        self._pushed = 0
        self._notes: Notes | None = None
        self._budget = policy.full_bucket(options.prove_per_hour, steady()) if options.prove_per_hour else None
        self._logger = logger or logging.getLogger("meshlab.syncd")
        self._now, self._steady, self._tell = now, steady, tell
        self._stop = threading.Event()

    def run(self, *, once: bool = False) -> bool:
        """Serve until ``stop``, or for one round; returns whether all went well.

        Raises ``CheckpointBusy`` when the store has such a daemon, ``NotFound`` without a store.
        """
        with daemon_lock(self.store, LOCK, "push daemon"):
            self._log("started", store=str(self.store), url=self.remote.url, pid=os.getpid())
            try:
                while not self._stop.is_set():
                    began = self._steady()
                    self.round()
                    self._tell_numbers()
                    if once:
                        break
                    self._stop.wait(max(0.0, began + self.options.interval - self._steady()))
            finally:
                self._log("stopped")
        return not self.failed

    def stop(self) -> None:
        """End soon: what is under way is not waited for when the bucket does not answer."""
        self._stop.set()
        self.remote.bucket.stop()

    def round(self) -> None:
        """Push whoever may be pushed now, then prove who has waited longest."""
        steady = self._steady()
        if self._outage.until > steady:
            return
        try:
            users = user_ids(self.store)
            ready = [uid for uid in users if self._trouble.get(uid, Trouble()).until <= steady]
            report = self.remote.push(ready, progress=False, told=self._take)
            self._forget(set(users))
            self._notes = Notes(self.store, self.remote.mark())
        except MeshlabError as error:
            self._fail_all(error)
            return
        self._outage = Trouble()
        self._last_push = self._now()
        asked = report.traffic
        self._log("round", logging.DEBUG, users=len(ready), requests=asked.requests, seconds=round(report.seconds, 3))
        self._prove()

    def _tell_numbers(self) -> None:
        if self._tell is not None:
            try:
                self._tell(self.metrics())
            except StorageError as error:
                self._log("metrics failed", logging.WARNING, error=error.message, hint=error.hint)

    def metrics(self) -> Metrics:
        """The numbers as of now."""
        notes, now, out = self._notes, self._now(), self._outage.failures > 0
        late = [uid for uid, user in self._last.items() if out or user.status in (FAILED, BEHIND)] if notes else []
        lags = [lag for uid in late if (lag := self._lag(uid, now)) is not None]
        proofs = [notes.proof(uid) for uid in self._last] if notes else []
        moments = [0 if proof is None else proof.proved_at for proof in proofs]
        users = self._last.values()
        return Metrics(
            lag_bytes=sum(lag.bytes for lag in lags),
            lag_seconds=max((lag.seconds for lag in lags), default=0.0),
            users=len(self._last),
            users_failed=sum(user.status == FAILED for user in users),
            users_forked=sum(bool(user.forks) and user.status != BEHIND for user in users),
            users_behind=sum(user.status == BEHIND for user in users),
            last_push=self._last_push,
            last_proven_restore=max(moments, default=0) / SECOND,
            oldest_proven_restore=min(moments, default=0) / SECOND,
            proofs_failed=sum(proof is not None and proof.outcome == "failed" for proof in proofs),
            pushed_bytes_total=self._pushed,
            requests_total=self.remote.bucket.traffic.requests,
            retries_total=self.remote.bucket.traffic.again,
        )

    def _lag(self, uid: str, now: float) -> Any:
        assert self._notes is not None
        note = self._notes.note(uid)
        try:
            return lag_of(self.store / uid, None if note is None else note.image, round(now * SECOND))
        except MeshlabError:
            return None  # the user went meanwhile

    # One user

    def _take(self, user: PushedUser) -> None:
        """Note what the push of one user came to."""
        before = self._last.get(user.uid)
        self._last[user.uid] = user
        self._pushed += user.bytes
        if user.status == FAILED:
            self._fail(user)
            return
        self._trouble.pop(user.uid, None)
        if user.status == PUSHED:
            self._log("push", uid=user.uid, image=user.image, number=user.number, blocks=user.blocks, bytes=user.bytes)
        if user.forks and (before is None or before.forks != user.forks):
            what = "behind" if user.status == BEHIND else "forked"
            self._log(what, logging.WARNING, uid=user.uid, heads=user.forks)

    def _fail(self, user: PushedUser) -> None:
        self.failed = True
        trouble = self._after(self._trouble.get(user.uid, Trouble()), user.uid)
        self._trouble[user.uid] = trouble
        retry_in = round(trouble.until - self._steady(), 1)
        failed = {"kind": user.kind, "error": user.error, "failures": trouble.failures, "retry_in": retry_in}
        self._log("failed", logging.WARNING, uid=user.uid, **failed)

    def _fail_all(self, error: MeshlabError) -> None:
        self.failed = True
        self._outage = self._after(self._outage, self.remote.url)
        retry_in = round(self._outage.until - self._steady(), 1)
        self._log("push failed", logging.ERROR, error=error.message, hint=error.hint, retry_in=retry_in)

    def _after(self, trouble: Trouble, name: str) -> Trouble:
        return policy.after_failure(trouble, name, self._steady(), self.options.backoff)

    def _forget(self, users: set[str]) -> None:
        for table in (self._trouble, self._last):
            for uid in table.keys() - users:
                del table[uid]

    # Proofs

    def _prove(self) -> None:
        """Prove users, the one with the oldest proof first, while the budget lasts."""
        if self._budget is None or self._notes is None:
            return
        self._budget = policy.refill(self._budget, self._steady())
        for uid, cost in self._stalest():
            if self._stop.is_set() or not policy.fits(self._budget, cost):
                return
            self._budget = policy.take(self._budget, cost)
            (proof,) = self.remote.prove(uid, progress=False).users
            self.failed |= proof.outcome == "failed"
            level = logging.INFO if proof.outcome == PROVED else logging.WARNING
            seconds = round(proof.seconds, 3)
            self._log("proof", level, uid=uid, outcome=proof.outcome, reason=proof.reason, seconds=seconds)

    def _stalest(self) -> list[tuple[str, int]]:
        """Users whose last proof is old, the oldest first; with the bytes that a proof reads."""
        assert self._notes is not None
        due, found = (self._now() - self.options.prove_every) * SECOND, []
        for uid in self._last:
            note, proof = self._notes.note(uid), self._notes.proof(uid)
            if note is not None and (proof is None or proof.at <= due):
                with suppress(MeshlabError):  # the image is refused, which the next push of the user tells
                    found.append((0 if proof is None else proof.at, uid, note.image.nbytes))
        return [(uid, cost) for _, uid, cost in sorted(found)]

    def _log(self, event: str, level: int = logging.INFO, **fields: Any) -> None:
        self._logger.log(level, event, extra={"fields": fields})
