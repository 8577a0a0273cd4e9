"""The plan of a migration: what is to be done for whom, what it takes, and what stands in the way.

A plan is a JSON file people may read.  Its ``id`` is the SHA-256 of everything else in
it, so that a rehearsal, a journal and an apply can tell that they are about the same
plan; ``read_plan`` believes no number and no path of such a file before it has looked.
"""

from __future__ import annotations

import hashlib
import math
import os
import re
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pyarrow as pa

from meshlab.errors import BadUserId, MeshlabError, NotFound, PlanRefused, PlanStale, storage_errors
from meshlab.migrate.documents import read_small_file, replace_file
from meshlab.migrate.sources.source import Problem, source_of
from meshlab.tables.tabular import Tabular
from meshlab.times import parse_time
from meshlab.wal.files import REAL_FILES, Files, open_regular
from meshlab.wal.paths import check_uid

FORMAT = 1
KINDS = ("map", "phase1", "scoped", "export")

_CHUNK = 4 << 20
_HEX_64 = re.compile("[0-9a-f]{64}", re.ASCII)
_HEX_32 = re.compile("[0-9a-f]{32}", re.ASCII)
_MOST = 1 << 62

PLAN_SCHEMA = pa.schema(
    [
        ("uid", pa.string()),
        ("kind", pa.string()),
        ("files", pa.int64()),
        ("bytes", pa.int64()),
        ("records", pa.int64()),
        ("state_hash", pa.string()),
        ("bytes_to_write", pa.int64()),
        ("seconds", pa.float64()),
        ("inputs", pa.list_(pa.struct([("path", pa.string()), ("size", pa.int64()), ("sha256", pa.string())]))),
        ("operations", pa.list_(pa.string())),
        ("notes", pa.list_(pa.string())),
    ]
)
"""One row per user of a plan."""


class Input(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One file a plan is about: its absolute path, bytes, and SHA-256 (64 hex digits)."""

    path: str
    size: int
    sha256: str


class Measured(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A sample of one kind of source that was converted on this machine, in a temporary directory.

    ``bytes_read`` of old files with ``records`` became ``bytes_written`` in the new
    layout in ``seconds``; a user with next to no bytes took ``fixed_seconds``.
    """

    kind: str
    what: str
    records: int
    bytes_read: int
    bytes_written: int
    seconds: float
    fixed_seconds: float = 0.0
    fixed_bytes: int = 0

    @property
    def rate(self) -> float:
        """Bytes of old files a second, the fixed part left out."""
        return self.bytes_read / max(self.seconds - self.fixed_seconds, 1e-6)


class PlannedUser(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is to be done for one user.

    ``records`` live in the source and have ``state_hash`` together; ``bytes_to_write``
    and ``seconds`` are estimated, ``notes`` are for people.
    """

    uid: str
    kind: str
    base: str
    inputs: list[Input]
    operations: list[str]
    records: int
    state_hash: str
    bytes_to_write: int
    seconds: float
    notes: list[str] = []

    @property
    def bytes_to_read(self) -> int:
        """Bytes of the user's old files."""
        return sum(one.size for one in self.inputs)


class Plan(Tabular, msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a migration would do.  ``id`` is the SHA-256 of everything else in it (64 hex digits).

    ``bytes_to_write`` is what the users' directories will take, ``free_needed`` also
    counts the copies that stand beside them for a while; ``free`` was free when the plan
    was made.  A plan with ``problems`` is for reading: nobody carries it out.

    Arrow tools take the object as it is: one row per user, in ``PLAN_SCHEMA``.
    """

    id: str = ""
    format: int = FORMAT
    created_at: str
    tool: str
    source: str
    store: str
    accept: dict[str, list[str]] = {}
    """Damage an operator has accepted, by uid, as ``wal-20250707.log:1234``."""
    users: list[PlannedUser] = []
    problems: list[Problem] = []
    left: list[Problem] = []
    """Files of the source that the plan does not take."""
    notes: list[str] = []
    """What a person should know of the plan as a whole."""
    measured: list[Measured] = []
    """What the estimates of time and bytes rest on."""
    bytes_to_write: int = 0
    free_needed: int = 0
    free: int = 0
    seconds: float = 0.0

    @property
    def digest(self) -> str:
        """The SHA-256 of everything but ``id``, 64 hex digits."""
        plain = msgspec.structs.replace(self, id="")
        return hashlib.sha256(msgspec.json.encode(plain, order="deterministic")).hexdigest()

    @property
    def short_id(self) -> str:
        """The first 16 digits of the id: what a migration's folder is called."""
        return self.id[:16]

    def sealed(self) -> Plan:
        """The same plan with the id its content has."""
        return msgspec.structs.replace(self, id=self.digest)

    def find(self, uid: str) -> PlannedUser:
        """What is planned for a user.  Raises ``NotFound``."""
        for one in self.users:
            if one.uid == uid:
                return one
        raise NotFound(f"user {uid!r} is not in plan {self.short_id}", hint="'meshlab migrate plan' lists its users")

    def save(self, path: str | os.PathLike[str], *, files: Files = REAL_FILES) -> Path:
        """Write the plan to a file, in place of what stood there; on disk when it returns.

        Raises ``StorageError``; a file that stood there is then as it was.  Only an earlier
        plan or report is replaced: never a file that somebody may need.
        """
        data = msgspec.json.format(msgspec.json.encode(self, order="deterministic"), indent=2)
        return replace_file(Path(path), data + b"\n", files)

    @property
    def records(self) -> int:
        """Live records of all users."""
        return sum(one.records for one in self.users)

    @property
    def bytes_to_read(self) -> int:
        """Bytes of the old files of all users."""
        return sum(one.bytes_to_read for one in self.users)

    @property
    def verdict(self) -> str:
        """One line: whether the plan can be rehearsed, and what it comes to."""
        from meshlab.migrate.report import plan_verdict

        return plan_verdict(self)

    def to_arrow(self) -> pa.Table:
        """One row per user, in ``PLAN_SCHEMA``."""
        rows = [msgspec.to_builtins(one) | {"files": len(one.inputs), "bytes": one.bytes_to_read} for one in self.users]
        return pa.Table.from_pylist(rows, schema=PLAN_SCHEMA)

    def __repr__(self) -> str:
        return f"<Plan {self.short_id}: {self.verdict}>"

    def _repr_html_(self) -> str:
        from meshlab.migrate.report import plan_summary

        return plan_summary(self)


# Files --------------------------------------------------------------------------------


def refuse_problems(plan: Plan) -> None:
    """Raise ``PlanRefused`` for a plan that must not be carried out, naming the first reason."""
    if plan.problems:
        first = plan.problems[0]
        more = f", and {len(plan.problems) - 1:,} more" if len(plan.problems) > 1 else ""
        raise PlanRefused(
            f"plan {plan.short_id} cannot be carried out: {first.where}: {first.what}{more}",
            hint=first.hint or "mend what it names, then make the plan anew",
        )
    if not plan.users:
        raise PlanRefused(
            f"plan {plan.short_id} has no users: nothing is to be done", hint="make a plan of a source that holds some"
        )


def rehearsal_path(path: str | os.PathLike[str]) -> Path:
    """Where the report of the rehearsal of a plan file stands.

    >>> rehearsal_path("plans/plan.json")
    PosixPath('plans/plan.json.rehearsal.json')
    """
    return Path(path).with_name(f"{Path(path).name}.rehearsal.json")


def load_plan(plan: Plan | str | os.PathLike[str]) -> Plan:
    """The plan itself, or the one in a file.  Raises what ``read_plan`` raises."""
    return plan if isinstance(plan, Plan) else read_plan(plan)


def read_plan(path: str | os.PathLike[str]) -> Plan:
    """The plan in a file.

    Raises ``PlanRefused`` for a file that is no plan, that was edited, or that names
    what no plan may name (a uid or path that leads elsewhere, a number out of range);
    ``NotFound`` and ``StorageError`` for one that cannot be read.
    """
    name = os.fspath(path)
    data = read_small_file(path, "a plan")
    try:
        version = msgspec.json.decode(data, type=_Version).format
        if version > FORMAT:
            raise PlanRefused(f"{name}: its format is {version}; this meshlab reads {FORMAT} and older")
        plan = msgspec.json.decode(data, type=Plan)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise PlanRefused(f"{name}: expected a plan, found something else: {error}") from None
    if plan.id != plan.digest:
        raise PlanRefused(
            f"{name}: expected the id {plan.digest[:16]}..., which its content has, found {plan.id[:16]!r}: "
            "the file was changed after it was made"
        )
    for wrong in _faults(plan):
        raise PlanRefused(f"{name}: {wrong}")
    return plan


class _Version(msgspec.Struct):
    format: int = FORMAT


def _faults(plan: Plan) -> Iterator[str]:
    """What no plan says, one line each."""
    if plan.format < 1:
        yield f"expected a format of 1 or more, found {plan.format}"
    if parse_time(plan.created_at) is None:
        yield f"created_at: expected a time, found {plan.created_at!r}"
    yield from _path_faults("source", plan.source)
    yield from _path_faults("store", plan.store)
    for name in ("bytes_to_write", "free_needed", "free", "seconds"):
        yield from _number_faults(name, getattr(plan, name))
    seen: dict[str, str] = {}
    for place, user in enumerate(plan.users):
        yield from (f"users[{place}].{wrong}" for wrong in _user_faults(user, plan.store))
        twin = seen.setdefault(user.uid.lower(), user.uid)
        if twin is not user.uid:
            yield f"users[{place}].uid: expected each user once, found {user.uid!r} behind {twin!r}"
    for uid in plan.accept:
        yield from _uid_faults("accept", uid)
    for place, one in enumerate(plan.measured):
        for name in ("records", "bytes_read", "bytes_written", "seconds", "fixed_seconds", "fixed_bytes"):
            yield from _number_faults(f"measured[{place}].{name}", getattr(one, name))


def _user_faults(user: PlannedUser, store: str) -> Iterator[str]:
    yield from _uid_faults("uid", user.uid)
    if user.kind not in KINDS:
        yield f"kind: expected one of {', '.join(KINDS)}, found {user.kind!r}"
    if not _HEX_32.fullmatch(user.state_hash):
        yield f"state_hash: expected 32 hex digits, found {user.state_hash!r}"
    for name in ("records", "bytes_to_write", "seconds"):
        yield from _number_faults(name, getattr(user, name))
    yield from _path_faults("base", user.base)
    if store == user.base or (user.kind in _OF_MANY_FILES and Path(store).is_relative_to(user.base)):
        yield f"base: expected the old files apart from the store, found both in {user.base}"
    if not user.inputs:
        yield "inputs: expected at least one file, found none"
    names: set[str] = set()
    for place, one in enumerate(user.inputs):
        yield from _path_faults(f"inputs[{place}].path", one.path)
        if not Path(one.path).is_relative_to(user.base) or one.path == user.base:
            yield f"inputs[{place}].path: expected a file below {user.base}, found {one.path!r}"
        if one.path in names:
            yield f"inputs[{place}].path: expected each file once, found {one.path!r} again"
        if Path(store).is_relative_to(one.path):
            yield f"inputs[{place}].path: expected the old files apart from the store, found {one.path!r}"
        names.add(one.path)
        yield from _number_faults(f"inputs[{place}].size", one.size)
        if not _HEX_64.fullmatch(one.sha256):
            yield f"inputs[{place}].sha256: expected 64 hex digits, found {one.sha256!r}"


def _uid_faults(name: str, uid: str) -> Iterator[str]:
    try:
        check_uid(uid)
    except BadUserId as error:
        yield f"{name}: {error.message}"


def _path_faults(name: str, path: str) -> Iterator[str]:
    if not path.startswith("/") or "\0" in path or os.path.normpath(path) != path:
        yield f"{name}: expected an absolute, plain path, found {path[:200]!r}"


def _number_faults(name: str, value: float) -> Iterator[str]:
    if not (math.isfinite(value) and 0 <= value <= _MOST):
        yield f"{name}: expected a number from 0 to {_MOST}, found {value}"


# Inputs -------------------------------------------------------------------------------


def hash_input(path: Path, progress: Callable[[int], Any] | None = None) -> Input:
    """Size and SHA-256 of a file, which is read once; ``progress`` is told bytes.  Raises ``StorageError``."""
    with storage_errors("read", path), os.fdopen(open_regular(path, os.O_RDONLY), "rb", buffering=0) as file:
        sum, size = hashlib.sha256(), 0
        while chunk := file.read(_CHUNK):
            sum.update(chunk)
            size += len(chunk)
            if progress is not None:
                progress(len(chunk))
    return Input(str(path), size, sum.hexdigest())


def check_fresh(plan: Plan, user: str | None = None, *, progress: Callable[[int], Any] | None = None) -> None:
    """Raise ``PlanStale`` unless every input, of one user or of all, is what it was when the plan was made.

    A file more, such as a new day of a log, makes a plan stale as well.  Reads every
    byte; names and sizes are compared first.  ``progress`` is told bytes.
    """
    users = plan.users if user is None else [plan.find(user)]
    inputs = [one for planned in users for one in planned.inputs]
    for one in inputs:
        _check_size(plan, one)
    for planned in users:
        _check_names(plan, planned)
    for one in inputs:
        try:
            found = hash_input(Path(one.path), progress)
        except MeshlabError as error:
            raise _stale(plan, one, f"a file that cannot be read: {error.message}") from None
        if found != one:
            raise _stale(plan, one, f"{found.size:,} bytes with SHA-256 {found.sha256}")


def _check_names(plan: Plan, user: PlannedUser) -> None:
    """No file stands beside the user's that would be the user's as well."""
    if user.kind not in _OF_MANY_FILES:
        return
    source = source_of(user)
    known = {one.path for one in user.inputs}
    begins = Path(user.inputs[0].path).name.partition(".")[0] + "." if user.kind == "scoped" else ""
    for folder in sorted({path.parent for path in source.paths}):
        for name in sorted(_names(folder)):
            path = folder / name
            if str(path) in known or not name.startswith(begins):
                continue
            if source.relocated(source.base, [*source.paths, path]).misnamed() is None:
                raise PlanStale(f"plan {plan.short_id} is stale: {path}: expected no such file, found one")


_OF_MANY_FILES = ("phase1", "scoped")


def _names(folder: Path) -> list[str]:
    try:
        return os.listdir(folder)
    except OSError:  # what is missing in it is said of its files
        return []


def _check_size(plan: Plan, one: Input) -> None:
    try:
        found = os.lstat(one.path)
    except OSError as error:
        raise _stale(plan, one, f"none: {error.strerror}") from None
    if not stat.S_ISREG(found.st_mode):
        raise _stale(plan, one, "something that is no regular file")
    if found.st_size != one.size:
        raise _stale(plan, one, f"{found.st_size:,} bytes")


def _stale(plan: Plan, one: Input, found: str) -> PlanStale:
    expected = f"{one.size:,} bytes with SHA-256 {one.sha256}"
    return PlanStale(f"plan {plan.short_id} is stale: {one.path}: expected {expected}, found {found}")
