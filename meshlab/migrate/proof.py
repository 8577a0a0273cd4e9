"""Verify: the proof that a store holds what the old files hold, at any time until the end.

The old files must be those of the plan, byte for byte, and come to its state hash when
they are read again; and so must the layers of the generation that was migrated, which a
pin keeps whatever is written, folded and deleted afterwards.  Nothing is written.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import msgspec
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from meshlab.dialects import OPS, OTHER
from meshlab.errors import MeshlabError, PlanRefused, PlanStale, SnapshotError
from meshlab.migrate.bars import Progress, open_bar
from meshlab.migrate.build import FAILURES, Digest, digest_of, digest_of_layers, explain
from meshlab.migrate.estimate import usable_cores
from meshlab.migrate.execution import is_ours
from meshlab.migrate.journal import DELETING, FINISHED, ROLLED_BACK, Journal, Place, place_of
from meshlab.migrate.plan import Plan, PlannedUser, check_fresh, load_plan
from meshlab.migrate.sources.folded import first_manifest, manifest_of
from meshlab.migrate.sources.source import source_of
from meshlab.replay import steadily
from meshlab.snapshot.base import verified_path
from meshlab.snapshot.manifest import LEDGER, Manifest
from meshlab.snapshot.ranges import folded_after, rest
from meshlab.tables.events import load_user
from meshlab.tables.load import Piece
from meshlab.tables.tabular import Tabular
from meshlab.wal.chain import Cursor
from meshlab.wal.files import REAL_FILES, Files
from meshlab.wal.paths import segment_name, user_root
from meshlab.wal.writer import wall_clock
from meshlab.wording import counted

VERIFY_SCHEMA = pa.schema(
    [
        ("uid", pa.string()),
        ("holds", pa.bool_()),
        ("records", pa.int64()),
        ("state_hash", pa.string()),
        ("events_since", pa.int64()),
        ("problem", pa.string()),
        ("hint", pa.string()),
    ]
)
"""One row per user of a verification."""


class VerifiedUser(msgspec.Struct, frozen=True, kw_only=True):
    """Whether the store holds what the old files of a user hold, and if not, why.

    ``records`` and ``state_hash`` are those of the migrated generation, computed from its
    layers; ``events_since`` came to the log behind it.
    """

    uid: str
    holds: bool
    records: int = 0
    state_hash: str = ""
    events_since: int = 0
    problem: str = ""
    hint: str = ""


class VerifyReport(Tabular, msgspec.Struct, frozen=True, kw_only=True):
    """The proof, user by user, in the order of the plan.

    Arrow tools take the object as it is: one row per user, in ``VERIFY_SCHEMA``.
    """

    plan_id: str
    store: str
    users: list[VerifiedUser]

    @property
    def holds(self) -> bool:
        """Whether it holds for every user."""
        return all(user.holds for user in self.users)

    @property
    def verdict(self) -> str:
        """One line."""
        records, since = (sum(getattr(user, name) for user in self.users) for name in ("records", "events_since"))
        wrong = [user.uid for user in self.users if not user.holds]
        if not wrong:
            users = counted(len(self.users), "user")
            told = f"{counted(records, 'record')} of {users} are in the store"
            return f"holds: {told}; {counted(since, 'event')} since"
        return f"does not hold for {len(wrong)} of {counted(len(self.users), 'user')}: {', '.join(wrong[:5])}"

    def to_arrow(self) -> pa.Table:
        """One row per user, in ``VERIFY_SCHEMA``."""
        return pa.Table.from_pylist([msgspec.to_builtins(user) for user in self.users], schema=VERIFY_SCHEMA)

    def __repr__(self) -> str:
        return f"<VerifyReport {self.plan_id[:16]}: {self.verdict}>"


def verify(
    plan: Plan | str | os.PathLike[str],
    *,
    jobs: int | None = None,
    progress: Progress = True,
    files: Files = REAL_FILES,
    clock: Callable[[], int] = wall_clock,
) -> VerifyReport:
    """Prove that the store of a plan holds what its old files hold; whatever is wrong is in the report.

    Possible from apply to finish, whatever is written to the store meanwhile.  Reads
    everything: the old files twice, the layers once; at most ``jobs`` users at once.
    Raises ``PlanRefused`` when the migration was finished.
    """
    known = load_plan(plan)
    place = place_of(known.store, known.id)
    journal = Journal(place, files, clock)
    refuse_finished(known, journal)
    with (
        open_bar(progress, "verify", known.bytes_to_read) as bar,
        ThreadPoolExecutor(jobs or usable_cores()) as pool,
    ):
        found = pool.map(lambda user: verify_user(known, user, place, journal, bar.update), known.users)
        return VerifyReport(plan_id=known.id, store=known.store, users=list(found))


def verify_user(
    plan: Plan,
    user: PlannedUser,
    place: Place,
    journal: Journal,
    told: Callable[[int], object] = lambda count: None,
) -> VerifiedUser:
    """The proof for one user."""
    try:
        root = _migrated(user, place, journal)
        found = steadily(root, lambda: digest_of_layers(root, first_manifest(root, user.uid)))
        since = steadily(root, lambda: since_migration(root, user.uid))
        wrong, hint = _difference("the migrated generation", found, user), _KEEP
        if not wrong:
            wrong, hint = _source_problem(plan, user, told)
    except FAILURES as error:
        message, hint = explain(error)
        return VerifiedUser(uid=user.uid, holds=False, problem=message, hint=hint)
    return VerifiedUser(
        uid=user.uid,
        holds=not wrong,
        records=found.records,
        state_hash=found.state_hash,
        events_since=since.events,
        problem=wrong,
        hint=hint if wrong else "",
    )


def refuse_finished(plan: Plan, journal: Journal) -> None:
    """Raise ``PlanRefused`` when the migration of a plan was finished: nothing is kept any more to go by."""
    for user in plan.users:
        step = journal.standing(user.uid)
        if step is not None and step.step in (DELETING, FINISHED):
            raise PlanRefused(
                f"plan {plan.short_id} was finished at {step.time}: there is no proof and no way back any more",
                hint="'meshlab verify' checks the logs, 'meshlab replay' takes out what they hold",
            )


_KEEP = "keep the old files as they are, and roll back or look into it; nothing was changed"


def _migrated(user: PlannedUser, place: Place, journal: Journal) -> Path:
    """The directory of a user that was moved.  Raises ``MeshlabError`` saying where the user stands instead."""
    step, root = journal.standing(user.uid), user_root(place.store, user.uid)
    if step is not None and step.step == ROLLED_BACK:
        raise MeshlabError(f"{user.uid}: rolled back: the store does not hold it", hint="the old files are in force")
    if not os.path.lexists(root):
        raise MeshlabError(f"{user.uid}: not migrated: {root} is not there", hint="run 'meshlab migrate apply'")
    if not is_ours(root, place):
        raise SnapshotError(
            f"{root}: expected the pin of migration {place.plan_id[:16]}, found none or another",
            hint="another migration made this directory, or it was replaced: look into its history/",
        )
    return root


def _source_problem(plan: Plan, user: PlannedUser, told: Callable[[int], object]) -> tuple[str, str]:
    """Why the old files no longer say what was migrated, and what to do; empty when they do."""
    try:
        check_fresh(plan, user.uid, progress=told)
    except PlanStale as error:
        return error.message, "an old program still writes there, or somebody changed it: stop that, then look at both"
    source = source_of(user, plan.accept)
    return _difference("the old files, read again,", digest_of(source.batches(progress=False)), user), _KEEP


def _difference(what: str, found: Digest, user: PlannedUser) -> str:
    expected = Digest(user.records, user.state_hash)
    return "" if found == expected else f"{user.uid}: expected {expected}, found {found} in {what.rstrip(',')}"


_RECOVERED = '{"Recovered":'
"""What a log says of itself."""


class Since(NamedTuple):
    """What came to the log of a user behind the migrated generation.

    ``others`` of the events change no memory, ``deleted`` of them stood in days that a
    vacuum has deleted; ``damage`` names places that a checkpoint would stop at.
    """

    events: int
    others: int
    damage: list[str]
    deleted: int = 0


def since_migration(root: Path, uid: str) -> Since:
    """Count what came since; segments that a vacuum has deleted count by its ledger.  Reads only."""
    first, newest = first_manifest(root, uid), manifest_of(root, uid)
    folded = [Piece(one.segment, one.start, one.stop) for one in folded_after(newest, first)]
    events, others = _ledger(root, first, newest)
    deleted = others
    damage: list[str] = []
    for pieces, behind in ((folded, first), (rest(root, newest), newest)):
        start = Cursor(behind.seq, behind.sum, behind.effective)
        found = load_user(root, uid, pieces, start=start, columns=("op", "raw"), progress=False)
        for batch in found.to_batches():
            events += batch.num_rows
            raw = batch["raw"].filter(pc.equal(batch["op"].cast(pa.string()), OPS[OTHER]))
            others += sum(not text.startswith(_RECOVERED) for text in raw.to_pylist())
        if behind is newest:
            rejects = found.rejects.to_pylist()
            damage = [f"{segment_name(row['segment'])}:{row['offset']}" for row in rejects if row["class"] != "torn"]
    return Since(events, others, damage, deleted)


def _ledger(root: Path, first: Manifest, newest: Manifest) -> tuple[int, int]:
    """Events, and those that change no memory, of segments that were deleted since and not migrated whole."""
    before = {gone.segment for gone in first.retired}
    whole = {gone.segment for gone in newest.retired if first.folded_ends.get(gone.segment) == gone.nbytes}
    events = others = 0
    for layer in newest.of_kind(LEDGER):
        for row in pq.read_table(verified_path(root, layer)).to_pylist():
            if row["day"] not in before | whole:
                events += row["events"]
                others += row["events"] * (row["op"] == OPS[OTHER])
    return events, others
