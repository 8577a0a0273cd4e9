"""Roll back: the old layout again, with what was written to the store since.

A user whose state is still the one that was migrated gets back the old files as they
stand.  Otherwise the log is folded, files of the old layout are written into a hidden
folder beside the originals and read back, the originals step aside under a name that
tells, and the new files take their place.  Then the user's directory leaves the store.
No byte is deleted before the migration is finished.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Collection, Mapping
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import msgspec

from meshlab.errors import (
    DamageFound,
    InternalError,
    MeshlabError,
    PlanStale,
    StorageError,
    storage_errors,
)
from meshlab.migrate.bars import Progress, open_bar
from meshlab.migrate.build import FAILURES, digest_of, digest_of_layers, explain, remove_tree
from meshlab.migrate.execution import is_ours, is_untouched, told_of_stray
from meshlab.migrate.journal import (
    GIVEN,
    MOVED,
    RESTORED,
    ROLLED_BACK,
    ROLLING,
    Journal,
    Place,
    migration_lock,
    place_of,
)
from meshlab.migrate.outcome import AS_THEY_WERE, IF_CHANGED, WRITTEN_ANEW, RollbackReport, RolledBackUser
from meshlab.migrate.pace import Pace, PacedFiles
from meshlab.migrate.plan import Plan, PlannedUser, check_fresh, load_plan
from meshlab.migrate.proof import Since, refuse_finished, since_migration
from meshlab.migrate.sources.folded import manifest_of
from meshlab.migrate.sources.source import SET_ASIDE, LeftOver, source_of
from meshlab.migrate.swap import LEFT_OVER, Swap, adopt, hidden_folder, plan_swap, prepare, sync_hidden, write_left_over
from meshlab.snapshot.checkpoint import checkpoint, locked, wal_lock
from meshlab.snapshot.manifest import Manifest
from meshlab.wal.files import REAL_FILES, Files
from meshlab.wal.paths import segment_days, segment_size, user_root
from meshlab.wal.writer import sync_names, wall_clock

_ROUNDS = 3
"""How often a rollback starts over because somebody has written to the store meanwhile."""


def roll_back(
    plan: Plan | str | os.PathLike[str],
    *,
    accept: Mapping[str, Collection[str]] | None = None,
    limit_rate: float | None = None,
    dry_run: bool = False,
    progress: Progress = True,
    files: Files = REAL_FILES,
    clock: Callable[[], int] = wall_clock,
) -> RollbackReport:
    """Give the users of a plan back to the old layout.

    ``accept`` names, by uid, damage in the log (``wal-20250707.log:1234``) that may be
    left behind; at most ``limit_rate`` bytes are written a second.  ``dry_run`` says what
    would be done, and writes nothing.  One user's failure is in the report and stops no
    other.

    Raises ``PlanRefused`` when the migration was finished, ``MigrationBusy``.
    """
    started, known = time.monotonic(), load_plan(plan)
    place = place_of(known.store, known.id)
    journal = Journal(place, files, clock)
    refuse_finished(known, journal)
    if dry_run:
        users = [_foresee(known, user, place, journal, (accept or {}).get(user.uid, ())) for user in known.users]
    else:
        with migration_lock(place, files):
            journal = Journal(place, files, clock)
            refuse_finished(known, journal)  # it may just have been
            journal.renew()
            paced = PacedFiles(files, Pace(rate=limit_rate, pause=place.pause))
            work = _Rollback(known, place, journal, dict(accept or {}), paced, clock)
            with open_bar(progress, "roll back", len(known.users), " users") as bar:
                users = [work.run(user, bar.update) for user in known.users]
    return RollbackReport(
        plan_id=known.id, store=known.store, dry_run=dry_run, seconds=time.monotonic() - started, users=users
    )


def _settled(user: PlannedUser, place: Place, journal: Journal) -> RolledBackUser | None:
    """What is said of a user there is nothing to do for."""
    step, root = journal.standing(user.uid), user_root(place.store, user.uid)
    stands = step.step if step is not None else ""
    if stands == ROLLED_BACK and not (os.path.lexists(root) and is_ours(root, place)):
        assert step is not None
        told = {name: step.facts[name] for name in ("originals", "moved_to", "left_over", "kept_beside", "set_aside")}
        told |= {"uid": user.uid, "status": "already", "warning": told_of_stray(root, user.uid)}
        return msgspec.convert(told, RolledBackUser)
    if is_untouched(user, place, journal):
        return RolledBackUser(uid=user.uid, status="untouched", originals=AS_THEY_WERE)
    if stands == MOVED and not os.path.lexists(root):
        raise StorageError(
            f"{root}: expected the directory of a user that was migrated, found none",
            hint="put it back from where it was moved to; the old files stand as they were",
        )
    if os.path.lexists(root) and not is_ours(root, place):
        raise StorageError(
            f"{root}: expected a directory that this migration made, found another",
            hint="move it aside and put the migrated one back; the old files stand as they are",
        )
    return None


def _failed(user: PlannedUser, error: BaseException) -> RolledBackUser:
    message, hint = explain(error)
    return RolledBackUser(uid=user.uid, status="failed", error=message, hint=hint)


def _foresee(plan: Plan, user: PlannedUser, place: Place, journal: Journal, accept: Collection[str]) -> RolledBackUser:
    """What a rollback of a user would do; reads only."""
    try:
        settled = _settled(user, place, journal)
        if settled is not None:
            return settled
        root = user_root(place.store, user.uid)
        since = since_migration(root, user.uid)
        refused = [one for one in since.damage if one not in accept]
        if refused:
            raise _damaged(user, f"{root}: {len(refused)} damaged places: {', '.join(refused[:5])}", refused)
        check_fresh(plan, user.uid)
        originals = IF_CHANGED if since.events else AS_THEY_WERE
        if originals == IF_CHANGED and not os.access(user.base, os.W_OK | os.X_OK):
            raise StorageError(f"{user.base} may not be written", hint="allow it, or run as the owner of the old files")
    except FAILURES as error:
        return _failed(user, error)
    return RolledBackUser(
        uid=user.uid,
        status="planned",
        records=user.records,
        events_since=since.events,
        originals=originals,
        left_over=0 if originals == AS_THEY_WERE else None,
    )


def _damaged(user: PlannedUser, message: str, places: Collection[str]) -> DamageFound:
    options = " ".join(f"--accept {user.uid}/{place}" for place in list(places)[:5])
    return DamageFound(message, hint=f"to leave those bytes behind: {options}", places=list(places))


def _is_fresh(plan: Plan, user: PlannedUser) -> bool:
    try:
        check_fresh(plan, user.uid)
    except PlanStale:
        return False
    return True


class _Ready(NamedTuple):
    """A user whose old files can be put in place: by which renames (None: they stand), and what is to be told."""

    swap: Swap | None
    records: int
    left: list[LeftOver]
    since: Since


class _Rollback:
    """One rollback under way."""

    def __init__(
        self,
        plan: Plan,
        place: Place,
        journal: Journal,
        accept: dict[str, Collection[str]],
        files: PacedFiles,
        clock: Callable[[], int],
    ) -> None:
        self.plan, self.place, self.journal = plan, place, journal
        self.accept, self.files, self.clock = accept, files, clock
        self.tag = f"{SET_ASIDE}{plan.id[:8]}"

    def run(self, user: PlannedUser, told: Callable[[int], object]) -> RolledBackUser:
        """Roll one user back and tell of it; what goes wrong is in the result."""
        try:
            return self._carry_on(user) or _settled(user, self.place, self.journal) or self._roll_back(user)
        except FAILURES as error:
            with suppress(MeshlabError, OSError):  # if not now, the next run puts the originals back
                self._take_back(user)
            return _failed(user, error)
        finally:
            told(1)

    # A rollback that was cut short

    def _carry_on(self, user: PlannedUser) -> RolledBackUser | None:
        """Finish a rollback that came as far as the move; undo one that did not."""
        step = self.journal.standing(user.uid)
        if step is None or step.step not in (ROLLING, GIVEN, RESTORED):
            return None
        root = user_root(self.place.store, user.uid)
        moved = step.facts.get("moved_to", "")
        if (
            step.step == RESTORED
            and os.path.lexists(moved)
            and not (os.path.lexists(root) and is_ours(root, self.place))
        ):
            return self._confirm(user, root, msgspec.convert(step.facts["told"], RolledBackUser))
        self._take_back(user)
        return None

    def _take_back(self, user: PlannedUser) -> None:
        """Put the originals back where they were, if a swap was begun; the user stands as after apply."""
        step = self.journal.standing(user.uid)
        if step is None or step.step not in (ROLLING, GIVEN, RESTORED):
            return
        if step.facts.get("moved_to") and os.path.lexists(step.facts["moved_to"]):
            return
        if step.facts.get("swap"):
            msgspec.convert(step.facts["swap"], Swap).undo(self.files)
        else:
            remove_tree(hidden_folder(user, self.tag), self.files)
        self.journal.add(MOVED, user.uid, after=step.step)

    # Rolling back

    def _roll_back(self, user: PlannedUser) -> RolledBackUser:
        root = user_root(self.place.store, user.uid)
        for _ in range(_ROUNDS):
            self.journal.add(ROLLING, user.uid)
            sizes = _sizes(root)
            self._fold(user, root)
            self.files.pace.wait()  # not while everybody who writes would wait too
            with locked(root, self.files):
                ready = self._prepare(user, root)
                with wal_lock(root, self.files):
                    if _sizes(root) == sizes:  # nobody can write now, and all there is was folded
                        told = self._leave(user, root, ready)
                        break
            self._discard(ready)
        else:
            raise StorageError(
                f"{root}: programs keep writing to the log while it is rolled back",
                hint="stop every program that writes to the store, then run the rollback again",
            )
        return self._confirm(user, root, told, sizes)

    def _fold(self, user: PlannedUser, root: Path) -> None:
        """Bring the log into layers; damage that nobody has accepted stops it."""
        accept = self.accept.get(user.uid, ())
        try:
            checkpoint(root, user.uid, accept=accept, progress=False, files=self.files, clock=self.clock)
        except DamageFound as error:
            raise _damaged(user, error.message, error.places) from None

    def _prepare(self, user: PlannedUser, root: Path) -> _Ready:
        """Write the old files in a hidden folder and prove them; or find that the originals say it all."""
        manifest, since = manifest_of(root, user.uid), since_migration(root, user.uid)
        fresh = _is_fresh(self.plan, user)
        same = (manifest.records, manifest.state_hash) == (user.records, user.state_hash) and not since.others
        if same and fresh:
            return _Ready(None, manifest.records, [], since)
        if not fresh:
            _refuse_changed(self.plan, user)
        hidden = hidden_folder(user, self.tag)
        left = self._give_back(user, root, manifest, hidden)
        if left:
            write_left_over(left, hidden / LEFT_OVER, self.files)
        with storage_errors("write", hidden):
            adopt(user, hidden)
        sync_hidden(hidden, self.files)
        return _Ready(plan_swap(user, hidden, self.tag), manifest.records, left, since)

    def _give_back(self, user: PlannedUser, root: Path, manifest: Manifest, hidden: Path) -> list[LeftOver]:
        """Write files of the old layout, and read them back: they hold all that does not stand in the list."""
        source, folder = source_of(user, self.plan.accept), prepare(hidden, self.files)
        with storage_errors("write", folder):
            left = source.give_back(root, folder, self.files)
        order = {Path(one.path).relative_to(user.base): place for place, one in enumerate(user.inputs)}
        made = [path for path in folder.rglob("*") if path.is_file()]
        made.sort(key=lambda path: (order.get(path.relative_to(folder), len(order)), str(path)))
        without = {one.id for one in left}
        found = digest_of(source.relocated(folder, made).batches(progress=False), without)
        expected = digest_of_layers(root, manifest, without)
        if found != expected:
            raise InternalError(f"{user.uid}: expected {expected} in the old layout, read back {found}")
        return left

    def _leave(self, user: PlannedUser, root: Path, ready: _Ready) -> RolledBackUser:
        """Put the old files in place and take the user's directory out of the store; nobody can write meanwhile."""
        target, swap = _free(self.place.rolled_back / user.uid), ready.swap
        files = self.files.inner  # no pause here: the log is locked
        beside = [target for source, target in swap.into if source.endswith(LEFT_OVER)] if swap is not None else []
        told = RolledBackUser(
            uid=user.uid,
            status="rolled-back",
            records=ready.records,
            events_since=ready.since.events,
            originals=AS_THEY_WERE if swap is None else WRITTEN_ANEW,
            set_aside=[aside for _, aside in swap.aside] if swap is not None else [],
            left_over=len(ready.left),
            kept_beside=beside[0] if beside else "",
            moved_to=str(target),
            warning=f"{ready.since.deleted:,} events that change no memory were deleted by vacuum with their days: "
            "the old files cannot have them, nor the list of what did not fit"
            if ready.since.deleted
            else "",
        )
        with storage_errors("roll back", root):
            if swap is not None:
                self.journal.add(GIVEN, user.uid, swap=swap)
                swap.carry_out(files)
            self.journal.add(RESTORED, user.uid, swap=swap, moved_to=str(target), told=told)
            if not target.parent.is_dir():
                files.mkdir(target.parent)
                files.sync_directory(target.parent.parent)
            files.rename(root, target)
        return told

    def _confirm(
        self, user: PlannedUser, root: Path, told: RolledBackUser, sizes: Mapping[str, int] | None = None
    ) -> RolledBackUser:
        """The names are on the medium: write it down, clean up, and look who came meanwhile."""
        moved = Path(told.moved_to)
        step = self.journal.standing(user.uid)
        with storage_errors("sync", root):
            self.files.sync_directory(moved.parent)
            sync_names(moved, self.files)
            self.files.sync_directory(self.place.store)
        warnings = filter(None, (told.warning, _latecomers(root, moved, sizes)))
        told = msgspec.structs.replace(told, warning="; ".join(warnings))
        facts = msgspec.to_builtins(told)
        del facts["uid"], facts["status"], facts["error"], facts["hint"]
        if step is not None and step.facts.get("swap"):
            with suppress(OSError):
                msgspec.convert(step.facts["swap"], Swap).clean(self.files)
        self.journal.add(ROLLED_BACK, user.uid, **facts)
        return told

    def _discard(self, ready: _Ready) -> None:
        if ready.swap is not None:
            ready.swap.clean(self.files)


def _refuse_changed(plan: Plan, user: PlannedUser) -> None:
    """Old files that were written to since the plan must not step aside for those of the store."""
    try:
        check_fresh(plan, user.uid)
    except PlanStale as error:
        raise PlanStale(
            f"{user.uid}: the old files have changed since the plan was made, and rolling back would hide that: "
            f"{error.message}",
            hint="keep what was written there, put the files of the plan back, and run the rollback again",
        ) from None


def _sizes(root: Path) -> dict[str, int]:
    return {day: segment_size(root, day) for day in segment_days(root)}


def _latecomers(root: Path, moved: Path, sizes: Mapping[str, int] | None) -> str:
    """What was written by programs that take no lock, or came when the user had left."""
    told = []
    if sizes is not None and _sizes(moved) != sizes:
        told.append(f"a program without the lock wrote to the log meanwhile: see {moved}")
    if os.path.lexists(root):
        told.append(f"a program has made {root} anew: stop it, and look at what it wrote there")
    return "; ".join(told)


def _free(path: Path) -> Path:
    names = (path.with_name(f"{path.name}{number}") for number in ("", *(f"~{n}" for n in range(2, 10_000))))
    return next(name for name in names if not os.path.lexists(name))
