"""What became of the users of a plan."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pyarrow as pa

from meshlab.migrate.build import explain
from meshlab.migrate.plan import PlannedUser
from meshlab.tables.tabular import Tabular

RESULT_SCHEMA = pa.schema(
    [
        ("uid", pa.string()),
        ("status", pa.string()),
        ("records", pa.int64()),
        ("state_hash", pa.string()),
        ("bytes_read", pa.int64()),
        ("bytes_written", pa.int64()),
        ("seconds", pa.float64()),
        ("error", pa.string()),
        ("hint", pa.string()),
        ("root", pa.string()),
    ]
)
"""One row per user of an apply."""


class UserResult(msgspec.Struct, frozen=True, kw_only=True):
    """What became of one user.

    ``status`` is ``migrated``, ``already`` (in place before), ``finished`` (there is no
    way back any more), ``failed`` (nothing was moved; ``error`` says why), ``unconfirmed``
    (moved, and the medium may not know of it yet: run apply again) or ``planned`` (a dry
    run); ``root`` is the user's
    directory, of a failed proof that may be kept the one in staging.
    """

    uid: str
    status: str
    records: int = 0
    state_hash: str = ""
    bytes_read: int = 0
    bytes_written: int = 0
    seconds: float = 0.0
    error: str = ""
    hint: str = ""
    root: str = ""


class ApplyReport(Tabular, msgspec.Struct, frozen=True, kw_only=True):
    """What an apply did, or would do, for each user in the order of the plan.

    Arrow tools take the object as it is: one row per user, in ``RESULT_SCHEMA``.
    """

    plan_id: str
    store: str
    dry_run: bool
    seconds: float
    users: list[UserResult]

    @property
    def failed(self) -> list[UserResult]:
        """The users that were not moved, or of whom that is not sure."""
        return [user for user in self.users if user.status in ("failed", "unconfirmed")]

    @property
    def verdict(self) -> str:
        """One line: how many users, and how many failed."""
        done = sum(user.status == "migrated" for user in self.users)
        before = sum(user.status in ("already", "finished") for user in self.users)
        told = f"{done} migrated, {before} already in place, {len(self.failed)} failed"
        return f"DRY RUN: {len(self.users) - before - len(self.failed)} to migrate" if self.dry_run else told

    def to_arrow(self) -> pa.Table:
        """One row per user, in ``RESULT_SCHEMA``."""
        return pa.Table.from_pylist([msgspec.to_builtins(user) for user in self.users], schema=RESULT_SCHEMA)

    def __repr__(self) -> str:
        return f"<ApplyReport {self.plan_id[:16]}: {self.verdict}>"


def planned_result(user: PlannedUser, store: Path) -> UserResult:
    """What a dry run says of a user."""
    return UserResult(
        uid=user.uid,
        status="planned",
        records=user.records,
        state_hash=user.state_hash,
        bytes_read=user.bytes_to_read,
        bytes_written=user.bytes_to_write,
        seconds=user.seconds,
        root=str(store / user.uid),
    )


def failed_result(user: PlannedUser, error: BaseException, root: str = "") -> UserResult:
    """What is said of a user that was not moved."""
    message, hint = explain(error)
    return UserResult(uid=user.uid, status="failed", error=message, hint=hint, root=root)


def unconfirmed_result(user: PlannedUser, error: BaseException, root: Path) -> UserResult:
    """What is said of a user that was moved, and of which the medium has not confirmed it."""
    return UserResult(
        uid=user.uid,
        status="unconfirmed",
        records=user.records,
        state_hash=user.state_hash,
        error=f"moved, but not confirmed: {explain(error)[0]}",
        hint="mend the disk and run apply again; until then neither side is to be written to",
        root=str(root),
    )


ROLLBACK_SCHEMA = pa.schema(
    [
        ("uid", pa.string()),
        ("status", pa.string()),
        ("records", pa.int64()),
        ("events_since", pa.int64()),
        ("originals", pa.string()),
        ("left_over", pa.int64()),
        ("kept_beside", pa.string()),
        ("moved_to", pa.string()),
        ("warning", pa.string()),
        ("error", pa.string()),
        ("hint", pa.string()),
    ]
)
"""One row per user of a rollback."""

AS_THEY_WERE, WRITTEN_ANEW = "as they were", "written anew"
IF_CHANGED = "written anew if the state has changed"


class RolledBackUser(msgspec.Struct, frozen=True, kw_only=True):
    """What became of one user.

    ``status`` is ``rolled-back``, ``already``, ``untouched`` (never migrated), ``failed``
    or ``planned`` (a dry run).  ``originals`` tells whether the old files stand as they
    were or were written anew; those of before are then in ``set_aside``.  ``left_over``
    counts what the old layout cannot hold, listed in the file ``kept_beside`` (None: that
    is known only when it is done); ``warning`` tells of programs that wrote meanwhile;
    ``moved_to`` is where the user's directory went.
    """

    uid: str
    status: str
    records: int = 0
    events_since: int = 0
    originals: str = ""
    set_aside: list[str] = []
    left_over: int | None = 0
    kept_beside: str = ""
    moved_to: str = ""
    warning: str = ""
    error: str = ""
    hint: str = ""


class RollbackReport(Tabular, msgspec.Struct, frozen=True, kw_only=True):
    """What a rollback did, or would do, for each user in the order of the plan.

    Arrow tools take the object as it is: one row per user, in ``ROLLBACK_SCHEMA``.
    """

    plan_id: str
    store: str
    dry_run: bool
    seconds: float
    users: list[RolledBackUser]

    @property
    def failed(self) -> list[RolledBackUser]:
        """The users that are still in the store."""
        return [user for user in self.users if user.status == "failed"]

    @property
    def left_over(self) -> int:
        """How much did not fit, of all users."""
        return sum(user.left_over or 0 for user in self.users)

    def to_arrow(self) -> pa.Table:
        """One row per user, in ``ROLLBACK_SCHEMA``."""
        rows = [{name: getattr(user, name) for name in ROLLBACK_SCHEMA.names} for user in self.users]
        return pa.Table.from_pylist(rows, schema=ROLLBACK_SCHEMA)

    def __repr__(self) -> str:
        done = sum(user.status == "rolled-back" for user in self.users)
        dry = "DRY RUN, " * self.dry_run
        told = f"{done} rolled back, {len(self.failed)} failed, {self.left_over} left over"
        return f"<RollbackReport {self.plan_id[:16]}: {dry}{told}>"
