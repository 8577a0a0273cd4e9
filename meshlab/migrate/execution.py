"""Apply: carry a plan out, user by user, each whole or not at all.

A user is built and proved in a staging folder of the store, its tree is synced, and one
rename gives it its name: with the sync of the store's directory behind it the user is
moved.  Old files are read, never written.  What a killed run left in staging is deleted
by the next one, which builds those users anew; users that are in place are left alone.
"""

from __future__ import annotations

import os
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from meshlab.errors import MeshlabError, StorageError, storage_errors
from meshlab.migrate.bars import Progress, open_bar
from meshlab.migrate.build import FAILURES, USER, Built, NotProved, Task, build_user, remove_tree
from meshlab.migrate.estimate import disk_free, disk_needed, useful_jobs
from meshlab.migrate.journal import (
    BEGIN,
    DELETING,
    FAILED,
    FINISHED,
    GIVEN,
    MOVED,
    RESTORED,
    ROLLED_BACK,
    ROLLING,
    STAGED,
    TAG,
    Journal,
    Place,
    migration_lock,
    place_of,
)
from meshlab.migrate.outcome import ApplyReport, UserResult, failed_result, planned_result, unconfirmed_result
from meshlab.migrate.pace import Bar, Pace, PacedFiles
from meshlab.migrate.plan import Plan, PlannedUser, check_fresh, load_plan, refuse_problems
from meshlab.migrate.workers import Crew, Failed, Terms
from meshlab.snapshot.pins import pinned
from meshlab.tables.events import load_user
from meshlab.wal.files import REAL_FILES, Files
from meshlab.wal.paths import user_root
from meshlab.wal.writer import sync_names, wall_clock

if TYPE_CHECKING:
    from meshlab.migrate.rehearsal import Rehearsal


def apply(
    plan: Plan | str | os.PathLike[str],
    *,
    rehearsal: Rehearsal | None = None,
    without_rehearsal: bool = False,
    jobs: int | None = None,
    limit_rate: float | None = None,
    dry_run: bool = False,
    progress: Progress = True,
    files: Files = REAL_FILES,
    clock: Callable[[], int] = wall_clock,
) -> ApplyReport:
    """Move the users of a plan into its store.

    ``plan`` is a plan or the path of its file; a rehearsal that passed stands beside the
    file, or is handed over.  At most ``jobs`` users at once (None: as many as there are
    processors), all together at most ``limit_rate`` bytes a second.  ``dry_run`` looks at
    everything apply looks at before it writes, and writes nothing.

    One user's failure is in the report and stops no other.  Raises ``PlanRefused`` for a
    plan with problems or without a rehearsal, ``PlanStale`` for one whose files have
    changed, ``MigrationBusy``, and ``StorageError`` when there is no room.
    """
    known = load_plan(plan)
    refuse_problems(known)
    if not without_rehearsal:
        from meshlab.migrate.rehearsal import require_passed  # which runs what is here

        require_passed(plan, rehearsal)
    return execute(
        known,
        Path(known.store),
        jobs=jobs,
        limit_rate=limit_rate,
        dry_run=dry_run,
        progress=progress,
        files=files,
        clock=clock,
    )


def execute(
    plan: Plan,
    store: Path,
    *,
    jobs: int | None = None,
    limit_rate: float | None = None,
    dry_run: bool = False,
    progress: Progress = True,
    keep_failed: bool = False,
    files: Files = REAL_FILES,
    clock: Callable[[], int] = wall_clock,
) -> ApplyReport:
    """Move the users of a plan into a store, which may be another than the plan's: that is a rehearsal.

    ``keep_failed`` leaves what was built of a user whose proof failed in staging, and
    says in ``UserResult.root`` where.
    """
    if jobs is not None and (type(jobs) is not int or jobs < 1):
        raise MeshlabError(f"{jobs!r} jobs at once do nothing", hint="give 1 or more")
    started, place = time.monotonic(), place_of(store, plan.id)
    with ExitStack() as stack:
        work = _Execution(plan, place, files, clock, limit_rate, keep_failed, progress)
        if not dry_run:
            stack.enter_context(migration_lock(place, files))
        results = work.run(jobs, dry_run)
    return ApplyReport(
        plan_id=plan.id, store=str(store), dry_run=dry_run, seconds=time.monotonic() - started, users=results
    )


class _Execution:
    """One apply under way."""

    def __init__(
        self,
        plan: Plan,
        place: Place,
        files: Files,
        clock: Callable[[], int],
        rate: float | None,
        keep_failed: bool,
        progress: Progress,
    ) -> None:
        self.plan, self.place, self.files, self.clock = plan, place, files, clock
        self.rate, self.keep_failed, self.progress = rate, keep_failed, progress
        self.attempt = place.staging / uuid.uuid4().hex[:8]
        self.results: dict[str, UserResult] = {}

    def run(self, jobs: int | None, dry_run: bool) -> list[UserResult]:
        self.journal = Journal(self.place, self.files, self.clock)
        todo = [user for user in self.plan.users if not self._is_settled(user)]
        self._check_inputs(todo, jobs)
        if todo:
            self._check_room(todo, jobs)
        if not dry_run:
            self.journal.renew()
            self._confirm_moves()
        if dry_run:
            self.results |= {user.uid: planned_result(user, self.place.store) for user in todo}
        elif todo:
            self._carry_out(todo, jobs)
        return [self.results[user.uid] for user in self.plan.users]

    # Where users stand

    def _is_settled(self, user: PlannedUser) -> bool:
        """Whether a user is in place, or cannot be moved: then the result says so."""
        step = self.journal.standing(user.uid)
        stands = step.step if step is not None else ""
        try:
            root = user_root(self.place.store, user.uid)
            refused: MeshlabError | None = None
            if stands in (DELETING, FINISHED):
                self.results[user.uid] = UserResult(uid=user.uid, status="finished", records=user.records)
                return True
            if stands in (ROLLING, GIVEN, RESTORED):
                refused = _rolling(user)
            elif os.path.lexists(root):
                refused = None if is_ours(root, self.place) else _conflict(root)
            elif stands in ("", STAGED, ROLLED_BACK):
                return False
            else:
                refused = _gone(root, stands)
        except MeshlabError as error:
            refused = error
        if refused is None:
            self.results[user.uid] = UserResult(
                uid=user.uid, status="already", records=user.records, state_hash=user.state_hash, root=str(root)
            )
        else:
            self.results[user.uid] = failed_result(user, refused)
        return True

    def _check_inputs(self, todo: Sequence[PlannedUser], jobs: int | None) -> None:
        """Raise ``PlanStale`` when a file is not what it was: before anybody is moved."""
        total = sum(user.bytes_to_read for user in todo)
        with (
            open_bar(self.progress, "check", total) as bar,
            ThreadPoolExecutor(useful_jobs(todo, jobs)) as pool,
        ):
            for _ in pool.map(lambda user: check_fresh(self.plan, user.uid, progress=bar.update), todo):
                pass

    def _check_room(self, todo: Sequence[PlannedUser], jobs: int | None) -> None:
        """Raise ``StorageError`` unless there is room for the users that are still to be moved."""
        needed, free = disk_needed(todo, useful_jobs(todo, jobs)), disk_free(self.place.store)
        if free < needed:
            raise StorageError(
                f"{self.place.store}: expected {needed:,} bytes of free disk, found {free:,}",
                hint="free some space, or choose a store on a larger disk; nothing was moved",
            )

    # Building and moving

    def _carry_out(self, todo: Sequence[PlannedUser], jobs: int | None) -> None:
        self.place.rate.unlink(missing_ok=True)  # of another day, perhaps, and another clock
        count = useful_jobs(todo, jobs) if self.files is REAL_FILES else 1  # a test's files are in this process only
        with Bar(todo, self.progress) as bar, ExitStack() as stack:
            pace = Pace(rate=self.rate, pause=self.place.pause, shared=self.place.rate if count > 1 else None)
            self.paced = PacedFiles(self.files, pace)
            try:
                self._begin()
                if count > 1:
                    terms = Terms(self.rate, str(self.place.pause), str(self.place.rate))
                    crew = stack.enter_context(Crew(count, terms))
                    outcomes = crew.outcomes([self._task(user) for user in todo], bar)
                else:
                    outcomes = self._inline(todo, pace, bar)
                for user, outcome in outcomes:
                    self.results[user.uid] = self._settle(user, outcome)
                    bar.done(user)
            finally:
                stack.close()
        self._clean()

    def _begin(self) -> None:
        """Write down what begins; what earlier attempts left in staging goes."""
        with storage_errors("write", self.place.folder):
            with suppress(OSError):  # a process of a killed run may just be ending there
                remove_tree(self.place.staging, self.files)
            self.plan.save(self.place.plan_file, files=self.paced)
            self.journal.add(BEGIN, plan=self.plan.id, attempt=self.attempt.name)
            if not self.place.staging.is_dir():
                self.paced.mkdir(self.place.staging)
            self.paced.mkdir(self.attempt)

    def _task(self, user: PlannedUser) -> Task:
        reason = f"{self.place.tag}: what was migrated, for verify and rollback; 'migrate finish' lets it go"
        return Task(user, self.plan.accept, str(self.attempt / user.uid), reason)

    def _inline(self, todo: Sequence[PlannedUser], pace: Pace, bar: Bar) -> Iterator[tuple[PlannedUser, Any]]:
        for user in todo:
            pace.told = bar.counter(user)
            try:
                outcome: Built | BaseException = build_user(self._task(user), self.paced, self.clock)
            except FAILURES as error:
                outcome = error
            pace.told = None
            yield user, outcome

    def _settle(self, user: PlannedUser, outcome: Built | BaseException) -> UserResult:
        folder, kept = self.attempt / user.uid, ""
        if isinstance(outcome, Built):
            try:
                root = self._move(user, folder, outcome)
                return UserResult(uid=user.uid, status="migrated", root=str(root), **msgspec.structs.asdict(outcome))
            except (MeshlabError, OSError) as error:
                outcome = error
                if self._is_moved(user):
                    return unconfirmed_result(user, error, user_root(self.place.store, user.uid))
        if self.keep_failed and _is_unproved(outcome):
            kept = str(folder / USER)
        result = failed_result(user, outcome, kept)
        with suppress(OSError):  # a disk that takes nothing: the report still says what happened
            if not kept:
                remove_tree(folder, self.files)
        with suppress(MeshlabError, OSError):
            self.journal.add(FAILED, user.uid, error=result.error)
        return result

    def _is_moved(self, user: PlannedUser) -> bool:
        """Whether a user has its name, though what was to confirm that has failed."""
        root = user_root(self.place.store, user.uid)
        return os.path.lexists(root) and is_ours(root, self.place)

    def _move(self, user: PlannedUser, folder: Path, built: Built) -> Path:
        """Give a user that was built its name: the commit point is the sync of both directories."""
        root = user_root(self.place.store, user.uid)
        if os.path.lexists(root):
            raise _conflict(root)
        self.journal.add(STAGED, user.uid, records=built.records, state_hash=built.state_hash)
        with storage_errors("move a user to", root):
            self.paced.rename(folder / USER, root)
            self.paced.sync_directory(folder)
            sync_names(root, self.paced)
        self.journal.add(MOVED, user.uid)
        return root

    def _confirm_moves(self) -> None:
        """Write down the users that a killed run moved, when their names are on the medium."""
        for uid, result in self.results.items():
            step = self.journal.standing(uid)
            if result.status == "already" and (step is None or step.step in (STAGED, ROLLED_BACK)):
                with storage_errors("sync", result.root):
                    for folder in self.place.staging.glob(f"*/{uid}"):
                        self.files.sync_directory(folder)
                    sync_names(Path(result.root), self.files)
                self.journal.add(MOVED, uid)
        if all(result.status == "already" for result in self.results.values()):
            self._clean()

    def _clean(self) -> None:
        """Take staging away; what is kept for a comparison stays."""
        if any(result.root and result.status == "failed" for result in self.results.values()):
            return
        with suppress(OSError):
            remove_tree(self.place.staging, self.files)
        self.place.rate.unlink(missing_ok=True)


def _is_unproved(outcome: Any) -> bool:
    return isinstance(outcome, NotProved) or (isinstance(outcome, Failed) and outcome.kind == NotProved.__name__)


def is_ours(root: Path, place: Place) -> bool:
    """Whether this migration made a user's directory: the pin of generation 1 says so."""
    return pinned(root).get(1, "").startswith(place.tag)


def is_untouched(user: PlannedUser, place: Place, journal: Journal) -> bool:
    """Whether a migration never moved a user."""
    step, root = journal.standing(user.uid), user_root(place.store, user.uid)
    return (step is None or step.step == STAGED) and not (os.path.lexists(root) and is_ours(root, place))


def told_of_stray(root: Path, uid: str) -> str:
    """What is to be told of a directory that programs made of a user who had left the store; empty without one."""
    if not os.path.lexists(root) or any(reason.startswith(TAG) for reason in pinned(root).values()):
        return ""
    found = load_user(root, uid, columns=("op",), progress=False)
    lines = found.to_arrow().num_rows + found.rejects.num_rows
    told = f"{lines:,} line{'s' * (lines != 1)} of its log stand in no old file"
    return f"{root} is new since the rollback: {told}" if lines else ""


def _conflict(root: Path) -> StorageError:
    return StorageError(
        f"{root} is there already, and this migration did not make it",
        hint="move it aside, or make a plan with another uid; nothing of this user was moved",
    )


def _rolling(user: PlannedUser) -> StorageError:
    return StorageError(
        f"{user.uid}: a rollback was interrupted", hint="run the rollback again; then the user can be applied anew"
    )


def _gone(root: Path, stands: str) -> StorageError:
    return StorageError(
        f"{root}: expected the directory of a user that stands at {stands!r} in the journal, found none",
        hint="put it back from where it was moved to, or roll back: the old files stand as they were",
    )
