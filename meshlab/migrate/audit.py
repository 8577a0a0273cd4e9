"""The audit of a store that a plan was carried out in: both sides of every user, record by record.

The old side is read from the originals, the new one as any reader reads it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pyarrow as pa

from meshlab.errors import MeshlabError
from meshlab.migrate.bars import Progress, open_bar
from meshlab.migrate.comparison import (
    CHANGED,
    DUPLICATED,
    FAILED,
    INVENTED,
    LISTED,
    LOST,
    MISSING,
    MOVED,
    STRANGER,
    Census,
    Difference,
    Finding,
    Sorted,
    compare,
    explain,
    findings_of,
    holding,
    sort_out,
    take_census,
)
from meshlab.migrate.outcome import UserResult
from meshlab.migrate.plan import Plan, PlannedUser
from meshlab.migrate.sources.source import Source, source_of
from meshlab.replay import replay
from meshlab.snapshot.base import Base
from meshlab.snapshot.manifest import Manifest, current, unpack
from meshlab.snapshot.ranges import rest
from meshlab.wal.paths import SNAPSHOT, user_ids
from meshlab.wording import counted


class RehearsedUser(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How one user fared.

    ``moved`` counts the user's memories that now stand with another, ``received`` those
    of others that now stand here; neither is counted as lost or invented.
    """

    uid: str
    records: int
    records_after: int = 0
    lost: int = 0
    invented: int = 0
    changed: int = 0
    duplicated: int = 0
    moved: int = 0
    received: int = 0
    bytes_read: int = 0
    bytes_written: int = 0
    seconds: float = 0.0
    state_hash: str = ""
    error: str = ""


class Audit:
    """Both sides of all users, one user at a time."""

    def __init__(self, plan: Plan, store: Path, results: list[UserResult], progress: Progress) -> None:
        self.plan, self.store = plan, store
        self.results = {one.uid: one for one in results}
        self.findings: list[Finding] = []
        self.counts: Counter[str] = Counter()
        self.errors: dict[str, str] = {}
        self.after: dict[str, str] = {}
        self._progress = progress

    def run(self) -> tuple[list[RehearsedUser], list[Finding], Counter[str]]:
        """Users, findings and counts."""
        with open_bar(self._progress, "compare", 2 * self.plan.records, " records") as bar:
            differences = [found for one in self.plan.users if (found := self._compare(one, bar.update)) is not None]
        sorted_out = {one.difference.uid: one for one in sort_out(differences, self._holders)}
        for one in sorted_out.values():
            self._take(one)
        self._strangers()
        users = [self._user(one, sorted_out.get(one.uid)) for one in self.plan.users]
        return users, self.findings, self.counts

    def _compare(self, user: PlannedUser, told: Callable[[int], Any]) -> Difference | None:
        result = self.results.get(user.uid)
        if result is not None and result.error:
            self._fail(user.uid, FAILED, result.error)
        try:
            old = take_census(self._source(user.uid).batches(progress=False), told)
        except MeshlabError as error:
            self._fail(user.uid, FAILED, error.message)
            return None
        if (len(old), old.state_hash) != (user.records, user.state_hash):
            expected = f"{counted(user.records, 'record')} with state hash {user.state_hash}"
            self._fail(
                user.uid, FAILED, f"the source was to hold {expected}, it holds {len(old):,} with {old.state_hash}"
            )
        root = self._root(user.uid)
        if root is None:
            return None
        try:
            new = self._census(user.uid, root, told)
        except (MeshlabError, OSError, pa.ArrowException) as error:
            self._fail(user.uid, FAILED, f"the new directory cannot be read: {error}")
            return None
        self.after[user.uid] = new.state_hash
        return compare(user.uid, old, new)

    def _source(self, uid: str) -> Source:
        return source_of(self.plan.find(uid), self.plan.accept)

    def _root(self, uid: str) -> Path | None:
        """Where the new directory of a user is: in the scratch store, or left behind where it failed."""
        if (self.store / uid).is_dir():
            return self.store / uid
        result = self.results.get(uid)
        if result is not None and result.root and Path(result.root).is_dir():
            return Path(result.root)
        if not self.errors.get(uid):
            self._fail(uid, MISSING, "the user is not in the new store")
        return None

    def _census(self, uid: str, root: Path, told: Callable[[int], Any]) -> Census:
        """The records of a new directory; also when it says that it is somebody else's."""
        try:
            return take_census(holdings(root, uid), told)
        except MeshlabError as error:
            other = _owner(root)
            if other in (None, uid):
                raise
            self._fail(uid, FAILED, error.message)
            return take_census(holdings(root, str(other)), told)

    def _holders(self, hashes: pa.Array) -> Iterator[tuple[str, pa.Array]]:
        for one in self.plan.users:
            yield from holding(one.uid, self._source(one.uid).batches(progress=False), hashes)

    def _take(self, one: Sorted) -> None:
        """Count and list what was found about the records of one user."""
        changed = one.difference.changed
        lengths = {
            LOST: len(one.lost),
            INVENTED: len(one.invented),
            CHANGED: len(changed),
            DUPLICATED: one.duplicated,
            MOVED: len(one.moved),
        }
        room = {kind: max(0, LISTED - self.counts[kind]) for kind in lengths}
        self.counts.update(lengths)
        listed: Counter[str] = Counter()
        for finding in findings_of(one):
            listed[finding.kind] += 1
            if listed[finding.kind] <= room[finding.kind]:
                self.findings.append(finding)
        if len(changed) and room[CHANGED]:
            self.findings += self._explained(one.difference.uid, changed[: room[CHANGED]])

    def _explained(self, uid: str, ids: pa.Array) -> list[Finding]:
        root = self._root(uid)
        assert root is not None
        owner = _owner(root) or uid
        return explain(uid, ids, self._source(uid).batches(progress=False), holdings(root, owner))

    def _strangers(self) -> None:
        planned = {one.uid for one in self.plan.users}
        for uid in user_ids(self.store) if self.store.is_dir() else []:
            if uid not in planned:
                self._fail(uid, STRANGER, "the new store has a user that is not in the plan")

    def _fail(self, uid: str, kind: str, text: str) -> None:
        """Write down what is wrong with a user as a whole, each thing once."""
        if text not in self.errors.get(uid, ""):
            self.findings.append(Finding(uid, kind, text=text))
            self.counts[kind] += 1
            self.errors[uid] = "; ".join(filter(None, [self.errors.get(uid, ""), text]))

    def _user(self, user: PlannedUser, one: Sorted | None) -> RehearsedUser:
        result = self.results.get(user.uid)
        found: dict[str, Any] = {}
        if one is not None:
            found = {
                "records_after": one.difference.after,
                LOST: len(one.lost),
                INVENTED: len(one.invented),
                CHANGED: len(one.difference.changed),
                DUPLICATED: one.duplicated,
                MOVED: len(one.moved),
                "received": len(one.received),
            }
        return RehearsedUser(
            uid=user.uid,
            records=user.records,
            state_hash=self.after.get(user.uid, ""),
            error=self.errors.get(user.uid, ""),
            bytes_read=user.bytes_to_read,
            bytes_written=result.bytes_written if result is not None else 0,
            seconds=round(result.seconds, 3) if result is not None else 0.0,
            **found,
        )


def holdings(root: Path, uid: str) -> Iterator[pa.RecordBatch]:
    """The live records of a user's directory, as any reader reads them."""
    manifest = current(root, uid)
    if isinstance(manifest, Manifest) and not rest(root, manifest):
        yield from Base.open(root, manifest).batches()
    else:
        yield from replay(root, uid, progress=False).to_arrow().to_batches()


def _owner(root: Path) -> str | None:
    """Whose directory it is by its own word; None when it says nothing."""
    try:
        return unpack((root / SNAPSHOT).read_bytes()).uid
    except (OSError, ValueError):
        return None
