"""Finish: nobody wants to go back any more.

Every user is proved once more, or was rolled back.  Then the pin of the migrated
generation goes, and with it what was kept for going back; the journal stays.  Old files
are deleted only when that was asked for, and only those that are still the plan's byte
for byte: of a user who was rolled back, the ones that stepped aside, never those in force.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import msgspec
import pyarrow as pa

from meshlab.errors import MeshlabError, PlanRefused, storage_errors
from meshlab.migrate.build import FAILURES, Digest, digest_of_layers, remove_tree, size_of_tree
from meshlab.migrate.execution import is_ours, is_untouched, told_of_stray
from meshlab.migrate.journal import (
    DELETING,
    FINISHED,
    GIVEN,
    RESTORED,
    ROLLED_BACK,
    ROLLING,
    Journal,
    Place,
    migration_lock,
    place_of,
)
from meshlab.migrate.plan import Input, Plan, PlannedUser, hash_input, load_plan, refuse_problems
from meshlab.migrate.proof import verify_user
from meshlab.migrate.sources.folded import first_manifest
from meshlab.snapshot.pins import pinned, unpin
from meshlab.tables.tabular import Tabular
from meshlab.wal.files import REAL_FILES, Files
from meshlab.wal.paths import user_root
from meshlab.wal.writer import wall_clock

FINISH_SCHEMA = pa.schema(
    [
        ("uid", pa.string()),
        ("status", pa.string()),
        ("home", pa.string()),
        ("records", pa.int64()),
        ("deleted", pa.list_(pa.string())),
        ("bytes_deleted", pa.int64()),
        ("kept", pa.list_(pa.string())),
    ]
)
"""One row per user of a finish."""


IN_STORE, IN_OLD_LAYOUT, NEVER_MIGRATED = "in the store", "in the old layout", "never migrated"


class FinishedUser(msgspec.Struct, frozen=True, kw_only=True):
    """What became of one user.

    ``status`` is ``finished``, ``already``, ``untouched`` (never migrated), or ``planned``
    (a dry run); ``home`` tells where its memories are from now on.  ``deleted`` are old
    files that went, ``kept`` those that stay although all were to go, and why.
    """

    uid: str
    status: str
    home: str = ""
    records: int = 0
    deleted: list[str] = []
    bytes_deleted: int = 0
    kept: list[str] = []


class FinishReport(Tabular, msgspec.Struct, frozen=True, kw_only=True):
    """What a finish did, or would do, for each user in the order of the plan.

    ``bytes_freed`` counts what was kept in the store for going back.  Arrow tools take
    the object as it is: one row per user, in ``FINISH_SCHEMA``.
    """

    plan_id: str
    store: str
    dry_run: bool
    delete_originals: bool
    bytes_freed: int
    seconds: float
    users: list[FinishedUser]

    def to_arrow(self) -> pa.Table:
        """One row per user, in ``FINISH_SCHEMA``."""
        return pa.Table.from_pylist([msgspec.to_builtins(user) for user in self.users], schema=FINISH_SCHEMA)

    def __repr__(self) -> str:
        gone = sum(len(user.deleted) for user in self.users)
        dry = "DRY RUN, " * self.dry_run
        return f"<FinishReport {self.plan_id[:16]}: {dry}{len(self.users)} users, {gone} old files deleted>"


def finish(
    plan: Plan | str | os.PathLike[str],
    *,
    delete_originals: bool = False,
    dry_run: bool = False,
    progress: bool = True,
    files: Files = REAL_FILES,
    clock: Callable[[], int] = wall_clock,
) -> FinishReport:
    """End the migration of a plan: from here on there is no rollback.

    All users are looked at before anything is touched.  ``dry_run`` writes nothing.

    Raises ``PlanRefused`` when a user is neither proved nor rolled back, naming it and
    why, ``MigrationBusy``, ``StorageError``.
    """
    started, known = time.monotonic(), load_plan(plan)
    refuse_problems(known)
    place = place_of(known.store, known.id)
    work = _Ending(known, place, delete_originals, dry_run, files, clock)
    if dry_run:
        users, freed = work.run()
    else:
        work.refuse_unapplied()  # before so much as a folder is made
        with migration_lock(place, files):
            users, freed = work.run()
    return FinishReport(
        plan_id=known.id,
        store=known.store,
        dry_run=dry_run,
        delete_originals=delete_originals,
        bytes_freed=freed,
        seconds=time.monotonic() - started,
        users=users,
    )


class _Ending:
    """One finish under way."""

    def __init__(
        self,
        plan: Plan,
        place: Place,
        delete_originals: bool,
        dry_run: bool,
        files: Files,
        clock: Callable[[], int],
    ) -> None:
        self.plan, self.place, self.files, self.clock = plan, place, files, clock
        self.delete_originals, self.dry_run = delete_originals, dry_run

    def refuse_unapplied(self) -> None:
        """Raise ``PlanRefused`` when no user of this plan was ever moved."""
        journal = Journal(self.place, self.files, self.clock)
        if not any(is_untouched(user, self.place, journal) is False for user in self.plan.users):
            raise _refused(self.plan, "it was never applied", "apply it first")

    def run(self) -> tuple[list[FinishedUser], int]:
        self.journal = Journal(self.place, self.files, self.clock)
        self.refuse_unapplied()
        for user in self.plan.users:
            self._refuse_unproved(user)
        self._refuse_both_ways()
        if not self.dry_run:
            self.journal.renew()
        users = [self._end(user) for user in self.plan.users]
        return users, self._clean()

    def _stands(self, user: PlannedUser) -> str:
        step = self.journal.standing(user.uid)
        return step.step if step is not None else ""

    def _refuse_unproved(self, user: PlannedUser) -> None:
        stands, root = self._stands(user), user_root(self.place.store, user.uid)
        if stands in (FINISHED, DELETING):
            return
        if stands in (ROLLING, GIVEN, RESTORED):
            raise _refused(self.plan, f"a rollback of {user.uid} was interrupted", "run the rollback again")
        if stands == ROLLED_BACK:
            if os.path.lexists(root) and is_ours(root, self.place):
                raise _refused(self.plan, f"{user.uid} is being applied again", "run apply again, then verify")
            if told := told_of_stray(root, user.uid):
                raise _refused(self.plan, told, "stop what writes there, save what is in it, and move it aside")
            return
        if is_untouched(user, self.place, self.journal):
            return
        proof = verify_user(self.plan, user, self.place, self.journal)
        if not proof.holds:
            raise _refused(self.plan, proof.problem, proof.hint)

    def _refuse_both_ways(self) -> None:
        """Raise ``PlanRefused`` when some users went back and others did not."""
        there = {self._home(user): user.uid for user in self.plan.users}
        if {IN_STORE, IN_OLD_LAYOUT} <= there.keys():
            why = f"{there[IN_STORE]} is in the store, and {there[IN_OLD_LAYOUT]} was rolled back"
            raise _refused(self.plan, why, "run the rollback again for the others, or apply for those who went back")

    def _home(self, user: PlannedUser) -> str:
        """Where the memories of a user are."""
        if self._was_rolled_back(user):
            return IN_OLD_LAYOUT
        return NEVER_MIGRATED if is_untouched(user, self.place, self.journal) else IN_STORE

    def _end(self, user: PlannedUser) -> FinishedUser:
        """Let go of what was kept for a user, and of its old files if that was asked for."""
        home = self._home(user)
        if home == NEVER_MIGRATED:
            return FinishedUser(uid=user.uid, status="untouched", home=home)
        stands, doomed = self._stands(user), self._doomed(user)
        going = [one for one in doomed if self.delete_originals and _is_still(one, doomed[one])]
        why = "is not what it was in the plan"
        if going and home == IN_STORE and stands in (FINISHED, DELETING) and not self._is_held(user):
            going, why = [], "the store does not hold any more what was migrated from it"
        result = FinishedUser(
            uid=user.uid,
            status="planned" if self.dry_run else "already" if stands == FINISHED else "finished",
            home=home,
            records=user.records,
            deleted=[str(path) for path in going],
            bytes_deleted=sum(doomed[path].size for path in going),
            kept=[f"{path}: {why}" for path in doomed if path not in going and path.exists()]
            if self.delete_originals
            else [],
        )
        if not self.dry_run and (going or stands != FINISHED):
            self._let_go(user, stands, going)
        return result

    def _is_held(self, user: PlannedUser) -> bool:
        """Whether the store still holds what was migrated, though nothing keeps it there any more."""
        try:
            root = user_root(self.place.store, user.uid)
            found = digest_of_layers(root, first_manifest(root, user.uid))
        except FAILURES:
            return False
        return found == Digest(user.records, user.state_hash)

    def _let_go(self, user: PlannedUser, stands: str, going: list[Path]) -> None:
        was_rolled_back, before = self._was_rolled_back(user), self._begun(user)
        for folder in {path.parent for path in going}:
            if not os.access(folder, os.W_OK | os.X_OK):
                raise _refused(self.plan, f"{folder} may not be written", "leave --delete-originals out, or allow it")
        if stands != FINISHED or going:
            self.journal.add(DELETING, user.uid, files=[str(path) for path in going], rolled_back=was_rolled_back)
        for path in going:
            with storage_errors("delete", path):
                self.files.unlink(path)
        for folder in dict.fromkeys(path.parent for path in (*before, *going) if path.parent.is_dir()):
            with storage_errors("sync", folder):
                self.files.sync_directory(folder)
            if was_rolled_back and folder != Path(user.base):
                with suppress(OSError):  # something else is in it
                    folder.rmdir()
        root = user_root(self.place.store, user.uid)
        if (
            not was_rolled_back
            and os.path.lexists(root)
            and pinned(root).get(1, self.place.tag).startswith(self.place.tag)
        ):
            unpin(root, 1, self.files)  # also when it is gone: that may not be on the medium
        self.journal.add(FINISHED, user.uid, rolled_back=was_rolled_back)

    def _begun(self, user: PlannedUser) -> list[Path]:
        """Files that an interrupted finish may have deleted, not yet on the medium."""
        step = self.journal.standing(user.uid)
        return [Path(path) for path in step.facts["files"]] if step is not None and step.step == DELETING else []

    def _was_rolled_back(self, user: PlannedUser) -> bool:
        step = self.journal.standing(user.uid)
        if step is None or step.step not in (DELETING, FINISHED):
            return step is not None and step.step == ROLLED_BACK
        return bool(step.facts.get("rolled_back"))

    def _doomed(self, user: PlannedUser) -> dict[Path, Input]:
        """The old files that nobody needs any more, by where they are now."""
        if not self._was_rolled_back(user):
            return {Path(one.path): one for one in user.inputs}
        aside = self._set_aside(user)
        found = {}
        for one in user.inputs:
            path = Path(one.path)
            for home in (path, Path(user.base)):
                if str(home) in aside:
                    found[Path(aside[str(home)]) / path.relative_to(home)] = one
        return found

    def _set_aside(self, user: PlannedUser) -> dict[str, str]:
        """Where originals went that stepped aside, by where they were."""
        for step in reversed(self.journal.steps):
            if step.uid == user.uid and step.step == RESTORED:
                return dict((step.facts.get("swap") or {}).get("aside", ()))
        return {}

    def _clean(self) -> int:
        """Delete what was kept in the store for going back; the plan and the journal stay."""
        freed = 0
        for folder in (self.place.staging, *self._unwanted()):
            if folder.is_dir():
                freed += size_of_tree(folder)
                if not self.dry_run:
                    with storage_errors("delete", folder):
                        remove_tree(folder, self.files)
                        self.files.sync_directory(folder.parent)
        return freed

    def _unwanted(self) -> list[Path]:
        """Directories of users that were rolled back; one that somebody wrote to behind the rollback stays."""
        steps = [step for step in self.journal.steps if step.step == ROLLED_BACK and not step.facts.get("warning")]
        return [self.place.rolled_back / Path(step.facts["moved_to"]).name for step in steps]


def _is_still(path: Path, one: Input) -> bool:
    """Whether a file is what it was when the plan was made."""
    try:
        found = hash_input(path)
    except MeshlabError:
        return False
    return (found.size, found.sha256) == (one.size, one.sha256)


def _refused(plan: Plan, why: str, hint: str) -> PlanRefused:
    return PlanRefused(f"plan {plan.short_id} cannot be finished: {why}", hint=hint)
