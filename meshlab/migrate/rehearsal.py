"""Rehearsing a migration: the code of apply on a scratch store, then every record of both sides.

The old side is read from the originals, the new one from the scratch store as any reader
reads it.  The report ends in one line, ``passed: ...`` or ``FAILED: ...``; apply asks for
the report of its plan.
"""

from __future__ import annotations

import hashlib
import os
import platform
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pyarrow as pa

from meshlab.errors import NotFound, PlanRefused
from meshlab.migrate.audit import Audit, RehearsedUser
from meshlab.migrate.bars import Progress
from meshlab.migrate.comparison import CHANGED, DUPLICATED, FAILED, INVENTED, LOST, MISSING, MOVED, STRANGER, Finding
from meshlab.migrate.documents import read_small_file, replace_file
from meshlab.migrate.estimate import disk_free, disk_needed, usable_cores, useful_jobs
from meshlab.migrate.outcome import ApplyReport
from meshlab.migrate.plan import FORMAT, Plan, load_plan, refuse_problems, rehearsal_path
from meshlab.migrate.scratch import scratch_folder
from meshlab.snapshot.checkpoint import tool
from meshlab.tables.tabular import Tabular
from meshlab.times import format_time
from meshlab.wal.files import REAL_FILES, Files
from meshlab.wal.writer import wall_clock

REHEARSAL_SCHEMA = pa.schema(
    [
        ("uid", pa.string()),
        ("records", pa.int64()),
        ("records_after", pa.int64()),
        *((name, pa.int64()) for name in (LOST, INVENTED, CHANGED, DUPLICATED, MOVED, "received")),
        ("bytes_read", pa.int64()),
        ("bytes_written", pa.int64()),
        ("seconds", pa.float64()),
        ("state_hash", pa.string()),
        ("error", pa.string()),
    ]
)
"""One row per user of a rehearsal."""


class Rehearsal(Tabular, msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a rehearsal found; ``id`` is the SHA-256 of everything else in it.

    ``findings`` lists the first thousand of each kind, ``counts`` counts them all.
    ``seconds`` is what carrying the plan out took, ``seconds_comparing`` the comparison.
    ``scratch`` is where the copy was left, when it was to be kept.

    Arrow tools take the object as it is: one row per user, in ``REHEARSAL_SCHEMA``.
    """

    id: str = ""
    format: int = FORMAT
    plan_id: str
    created_at: str
    tool: str
    machine: dict[str, str] = {}
    users: list[RehearsedUser] = []
    findings: list[Finding] = []
    counts: dict[str, int] = {}
    bytes_read: int = 0
    bytes_written: int = 0
    seconds: float = 0.0
    seconds_comparing: float = 0.0
    scratch: str = ""
    passed: bool = False
    verdict: str = ""

    @property
    def digest(self) -> str:
        """The SHA-256 of everything but ``id``, 64 hex digits."""
        plain = msgspec.structs.replace(self, id="")
        return hashlib.sha256(msgspec.json.encode(plain, order="deterministic")).hexdigest()

    @property
    def table(self) -> pa.Table:
        """One row per user, in ``REHEARSAL_SCHEMA``."""
        return self.to_arrow()

    def to_arrow(self) -> pa.Table:
        """One row per user, in ``REHEARSAL_SCHEMA``."""
        return pa.Table.from_pylist([msgspec.to_builtins(one) for one in self.users], schema=REHEARSAL_SCHEMA)

    def save(self, path: str | os.PathLike[str], *, files: Files = REAL_FILES) -> Path:
        """Write the report to a file, in place of what stood there; on disk when it returns."""
        data = msgspec.json.format(msgspec.json.encode(self, order="deterministic"), indent=2)
        return replace_file(Path(path), data + b"\n", files)

    def __repr__(self) -> str:
        return f"<Rehearsal of plan {self.plan_id[:16]}: {self.verdict}>"

    def _repr_html_(self) -> str:
        from meshlab.migrate.report import rehearsal_summary

        return rehearsal_summary(self)


# The report file ------------------------------------------------------------------------


def read_rehearsal(path: str | os.PathLike[str]) -> Rehearsal:
    """The report in a file.  Raises ``PlanRefused`` for one that is none or was changed, ``NotFound``."""
    name = os.fspath(path)
    data = read_small_file(path, "the report of a rehearsal")
    try:
        found = msgspec.json.decode(data, type=Rehearsal)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise PlanRefused(f"{name}: expected the report of a rehearsal: {error}", hint=_REHEARSE) from None
    passed, verdict = _judge(found)
    if found.format > FORMAT or found.id != found.digest or (found.passed, found.verdict) != (passed, verdict):
        raise PlanRefused(f"{name}: the report was changed after the rehearsal", hint=_REHEARSE)
    return found


_REHEARSE = "run 'meshlab migrate rehearse' on the plan"


def require_passed(plan: Plan | str | os.PathLike[str], rehearsal: Rehearsal | None = None) -> Rehearsal:
    """The report of a passed rehearsal of this very plan: the one given, or the one beside the plan's file.

    Raises ``PlanRefused`` when there is none.
    """
    loaded = load_plan(plan)
    if rehearsal is not None:
        return check_rehearsal(loaded, rehearsal)
    if isinstance(plan, Plan):
        raise PlanRefused(
            f"plan {loaded.short_id} has not been rehearsed",
            hint="hand over what rehearse returned, or give the plan as a file that was rehearsed",
        )
    return passed_rehearsal(loaded, plan)


def passed_rehearsal(plan: Plan, path: str | os.PathLike[str]) -> Rehearsal:
    """The report beside a plan file, if it says that a rehearsal of this very plan has passed.

    Raises ``PlanRefused`` otherwise.
    """
    try:
        found = read_rehearsal(rehearsal_path(path))
    except NotFound:
        raise PlanRefused(f"plan {plan.short_id} has not been rehearsed", hint=_REHEARSE) from None
    return check_rehearsal(plan, found)


def check_rehearsal(plan: Plan, found: Rehearsal) -> Rehearsal:
    """The report, if it is of this plan and it passed.  Raises ``PlanRefused``."""
    if found.plan_id != plan.id:
        raise PlanRefused(
            f"plan {plan.short_id} has not been rehearsed: the report is of plan {found.plan_id[:16]}", hint=_REHEARSE
        )
    if not found.passed or not _judge(found)[0] or [one.uid for one in found.users] != [u.uid for u in plan.users]:
        hint = "nothing may be applied that was not right in rehearsal: find out why"
        raise PlanRefused(f"the rehearsal of plan {plan.short_id} did not pass: {found.verdict}", hint=hint)
    return found


def _judge(found: Rehearsal) -> tuple[bool, str]:
    """Whether a rehearsal passed, and its last line."""
    told = [f"{found.counts[kind]:,} {words}" for kind, words in _WORDS.items() if found.counts.get(kind)]
    failed = [one.uid for one in found.users if one.error]
    users = f"{len(found.users):,} user{'s' * (len(found.users) != 1)}"
    if told or failed or not found.users or found.findings:
        first = next((str(one) for one in found.findings), "nothing was rehearsed")
        return False, f"FAILED: {', '.join(told) or 'nothing to compare'} ({first})"
    records = sum(one.records for one in found.users)
    return True, f"passed: {records:,} records of {users} are in the new layout as they were in the old one"


_WORDS = {
    FAILED: "failed",
    MISSING: "missing users",
    STRANGER: "invented users",
    LOST: "lost",
    INVENTED: "invented",
    CHANGED: "changed",
    DUPLICATED: "duplicated",
    MOVED: "moved to the wrong user",
}


# Rehearsing -----------------------------------------------------------------------------


def rehearse(
    plan: Plan | str | os.PathLike[str],
    *,
    scratch: str | os.PathLike[str] | None = None,
    jobs: int | None = None,
    limit_rate: float | None = None,
    keep: bool = False,
    progress: Progress = True,
    files: Files = REAL_FILES,
    clock: Callable[[], int] = wall_clock,
) -> Rehearsal:
    """Carry a plan out on a scratch store, and compare both sides record by record.

    The scratch store is made below ``scratch``, else in the store's own folder for
    migrations, and deleted afterwards whatever happens, unless ``keep``.  When the plan
    is given as a file, the report is saved beside it.  A rehearsal that finds anything
    has not ``passed``; that is no error.

    Raises ``PlanRefused`` for a plan with problems, ``PlanStale``, and ``StorageError``
    when the disk has no room.
    """
    path = None if isinstance(plan, Plan) else Path(plan)
    loaded = load_plan(plan)
    refuse_problems(loaded)
    with scratch_folder(loaded, scratch, keep=keep) as folder:
        _check_room(loaded, folder, jobs)
        store = folder / "store"
        options = {"jobs": jobs, "limit_rate": limit_rate, "progress": progress, "files": files, "clock": clock}
        report = carry_out(loaded, store, **options)
        started = time.monotonic()
        users, findings, counts = Audit(loaded, store, report.users, progress).run()
        found = Rehearsal(
            plan_id=loaded.id,
            created_at=format_time(clock()),
            tool=tool(),
            machine=_machine(folder, useful_jobs(loaded.users, jobs)),
            users=users,
            findings=findings,
            counts={kind: count for kind, count in counts.items() if count},
            bytes_read=sum(one.bytes_read for one in users),
            bytes_written=sum(one.bytes_written for one in users),
            seconds=round(report.seconds, 3),
            seconds_comparing=round(time.monotonic() - started, 3),
            scratch=str(folder) if keep else "",
        )
    passed, verdict = _judge(found)
    found = msgspec.structs.replace(found, passed=passed, verdict=verdict)
    found = msgspec.structs.replace(found, id=found.digest)
    if path is not None:
        found.save(rehearsal_path(path), files=files)
    return found


def carry_out(plan: Plan, store: Path, **options: Any) -> ApplyReport:
    """What apply does, into a store that is thrown away; what failed stays there for a look."""
    from meshlab.migrate.execution import execute  # which asks for the report of a rehearsal

    return execute(plan, store, keep_failed=True, **options)


def _check_room(plan: Plan, folder: Path, jobs: int | None) -> None:
    needed, free = disk_needed(plan.users, useful_jobs(plan.users, jobs)), disk_free(folder)
    if needed > free:
        raise PlanRefused(
            f"{folder.parent}: a rehearsal needs {needed:,} bytes there, {free:,} are free",
            hint="free space, or name a scratch directory on another file system",
        )


def _machine(folder: Path, jobs: int) -> dict[str, str]:
    return {
        "system": f"{platform.system()} {platform.release()}",
        "processor": platform.machine(),
        "processors": str(usable_cores()),
        "users at once": str(jobs),
        "python": platform.python_version(),
        "pyarrow": pa.__version__,
        "free for the scratch": f"{disk_free(folder):,} bytes",
    }
