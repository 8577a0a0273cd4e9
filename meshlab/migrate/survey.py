"""Making a plan: every source is read once, nothing is written where it stands or in the store.

A problem with one source is written down, and the others are planned all the same.
What is measured is measured in the system's directory for temporary files.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import numpy as np
import pyarrow as pa

from meshlab.errors import MeshlabError, storage_errors
from meshlab.migrate.bars import Progress, open_bar
from meshlab.migrate.build import FAILURES, explain
from meshlab.migrate.estimate import (
    Sample,
    choose,
    cost_of,
    disk_free,
    disk_needed,
    measure,
    usable_cores,
    useful_jobs,
    wall_time,
)
from meshlab.migrate.plan import Input, Measured, Plan, PlannedUser, hash_input
from meshlab.migrate.sources.source import Found, Problem, Source, find_sources, problem_at
from meshlab.snapshot.checkpoint import tool
from meshlab.snapshot.hashing import StateHash, row_hashes
from meshlab.times import format_time
from meshlab.wal.paths import check_uid, store_root, user_root
from meshlab.wal.writer import wall_clock

Accept = Mapping[str, Sequence[str]] | Collection[str]
"""Accepted damage by uid, or as ``ann/wal-20250707.log:1234``."""

_NAMED = 5
"""Memory ids that a note names."""


def inspect(
    source: str | os.PathLike[str] | None = None,
    *,
    user: str | None = None,
    users: str | os.PathLike[str] | None = None,
) -> Found:
    """Which users, in which layout, stand under a path; only beginnings of files are read.

    ``user`` is the uid of a single file, ``users`` a CSV of path,uid for many; ``source``
    is then not needed.  Raises ``NotFound``, ``StorageError``, ``BadUserId``.
    """
    return _find(source, user, users, {})


def make_plan(
    source: str | os.PathLike[str] | None = None,
    store: str | os.PathLike[str] | None = None,
    *,
    user: str | None = None,
    users: str | os.PathLike[str] | None = None,
    accept: Accept = (),
    progress: Progress = True,
    clock: Callable[[], int] = wall_clock,
) -> Plan:
    """Read everything a migration would read, and say what it would do; writes nothing that stays.

    ``store`` is where the users are to go (else ``$MESH_STORE`` or ``./mesh_store``),
    ``accept`` names damage to leave out for good, by uid or as
    ``ann/wal-20250707.log:1234``.  What is wrong stands in ``Plan.problems``.  Raises
    ``NotFound`` or ``StorageError`` when the source as a whole cannot be read.
    """
    accepted = _by_user(accept)
    target = Path(os.path.abspath(store_root(store)))
    where = Path(os.path.abspath(users if users is not None else source if source is not None else "."))
    found = _find(source, user, users, accepted)
    survey = _Survey(target, progress)
    survey.problems += found.problems
    survey.problems += list(_misplaced(target, where, found.sources))
    survey.problems += list(_empty(where, found))
    survey.problems += list(_unheard(accepted, found.sources))
    survey.read(found.sources)
    plan = Plan(
        created_at=format_time(clock()),
        tool=tool(),
        source=_text(where),
        store=_text(target),
        accept={uid: sorted(places) for uid, places in accepted.items()},
        left=[_clean(one) for one in found.left],
    )
    return survey.completed(plan)


def _find(
    source: str | os.PathLike[str] | None,
    user: str | None,
    users: str | os.PathLike[str] | None,
    accept: Mapping[str, Sequence[str]],
) -> Found:
    if users is not None:
        return find_sources(None, users=os.path.abspath(users), accept=accept)
    if source is None:
        raise MeshlabError("no source was named", hint="give a file or folder, or a CSV of path,uid as users")
    return find_sources(os.path.abspath(source), user=user, accept=accept)


def _by_user(accept: Accept) -> dict[str, tuple[str, ...]]:
    """Accepted damage by uid, from either form."""
    if isinstance(accept, Mapping):
        found = {uid: tuple(places) for uid, places in accept.items()}
    else:
        found = {}
        for place in [accept] if isinstance(accept, str) else accept:
            uid, slash, rest = place.partition("/")
            if not (uid and slash and rest):
                raise MeshlabError(f"accept {place!r} names no place", hint="write ann/wal-20250707.log:1234")
            found[uid] = (*found.get(uid, ()), rest)
    for uid in found:
        check_uid(uid)
    return found


# Where the store may be -----------------------------------------------------------------


def _misplaced(store: Path, where: Path, sources: Sequence[Source]) -> Iterator[Problem]:
    """The store is a place of its own: not the source, and not inside it."""
    real = Path(os.path.realpath(store))
    folders = {Path(os.path.realpath(path.parent)) for one in sources for path in one.paths}
    whole = {Path(os.path.realpath(where))} if where.is_dir() else set()
    whole |= {Path(os.path.realpath(one.base)) for one in sources if len(one.paths) > 1}
    hint = "name another directory with --store: the old files stay where they are"
    upgradable = {Path(os.path.realpath(one.base.parent)) for one in sources if one.kind == "phase1"}
    for folder in sorted(whole | folders):
        if real == folder:
            more = _UPGRADE if folder in upgradable else ""
            yield Problem(_text(store), f"the store is the directory of the source {_text(folder)}", hint + more)
        elif folder in whole and real.is_relative_to(folder):
            yield Problem(_text(store), f"the store is inside the source {_text(folder)}", hint)
    if store.exists() and not store.is_dir():
        yield Problem(_text(store), "a file stands where the store is to be", "name another directory with --store")


_UPGRADE = (
    "; without a migration, and without a way back, "
    "'meshlab checkpoint --upgrade' brings its users into the new layout in place"
)


def _empty(where: Path, found: Found) -> Iterator[Problem]:
    """A source in which nobody is found, and nothing is wrong either."""
    if not (found.sources or found.problems):
        hint = "what is not taken says why: it may need a uid" if found.left else "check the path"
        yield Problem(_text(where), "no user of an older layout was found there", hint)


def _unheard(accept: Mapping[str, Sequence[str]], sources: Sequence[Source]) -> Iterator[Problem]:
    """Damage that was accepted for users nobody found: most likely misspelt."""
    for uid in sorted(set(accept) - {one.uid for one in sources}):
        yield Problem(uid, "damage was accepted for a user who is not in the source", "check the uid of --accept")


def _unwelcome(store: Path, uid: str) -> str:
    """Why a user cannot be put into the store; empty when it can."""
    try:
        if os.path.lexists(user_root(store, uid)):
            return f"user {uid} is in the store {_text(store)} already"
    except MeshlabError as error:
        return error.message
    return ""


# Reading ------------------------------------------------------------------------------


class _Survey:
    """Reads sources one after the other; what each comes to, and what is wrong."""

    def __init__(self, store: Path, progress: Progress) -> None:
        self.store = store
        self.problems: list[Problem] = []
        self.users: list[PlannedUser] = []
        self.samples: list[Sample] = []
        self.ids = _Ids()
        self._progress = progress

    def read(self, sources: Sequence[Source]) -> None:
        """Hash and read all sources; a problem with one never keeps the others from being planned."""
        for one in sources:
            if wrong := _unwelcome(self.store, one.uid):
                self._problem(_where(one), wrong, "migrate into another store, or leave this user out")
        total = 2 * sum(_size(path) for one in sources for path in one.paths)
        with open_bar(self._progress, "plan", total) as bar:
            for one in sources:
                before = bar.n
                self._read_one(one, bar)
                bar.update(max(0, before + 2 * sum(map(_size, one.paths)) - bar.n))

    def _read_one(self, source: Source, bar: Any) -> None:
        try:
            for path in source.paths:
                str(path).encode()
            self._plan_one(source, bar)
        except UnicodeEncodeError:
            self._problem(_where(source), "the name of the file is not UTF-8", "rename it, then plan again")
        except FAILURES as error:
            self._problem(_where(source), *explain(error))

    def _plan_one(self, source: Source, bar: Any) -> None:
        stamps = [_stamp(path) for path in source.paths]
        inputs = [hash_input(path, bar.update) for path in source.paths]
        nbytes = sum(one.size for one in inputs)
        started = time.monotonic()
        read = _Reading(nbytes, bar)
        ids = self.ids.of(source.uid)
        for batch in source.batches(progress=False):
            read.add(batch)
            ids.add(batch)
        seconds = time.monotonic() - started
        for path, stamp in zip(source.paths, stamps):
            if _stamp(path) != stamp:
                hint = "stop the program that writes it, then plan again"
                raise MeshlabError(f"{path}: the file changed while it was read", hint=hint)
        self.samples.append(Sample(source, nbytes, read.records, seconds, read.memory))
        self.users.append(_planned(source, inputs, read))

    def completed(self, plan: Plan) -> Plan:
        """The plan with its users, problems and estimates."""
        measured, notes = _measured(self.samples)
        ids = self.ids.notes({one.source.uid: one.source for one in self.samples})
        spent = {one.source.uid: one for one in self.samples}
        users = []
        for one in self.users:
            read = spent[one.uid]
            cost = cost_of(one.bytes_to_read, measured.get(one.kind), reading=read.seconds, memory=read.memory)
            texts = [_text(note) for note in (*one.notes, *ids.get(one.uid, []))]
            users.append(
                msgspec.structs.replace(one, bytes_to_write=cost.nbytes, seconds=round(cost.seconds, 3), notes=texts)
            )
        jobs = useful_jobs(users)
        needed, free = disk_needed(users, usable_cores()), disk_free(self.store)
        if needed > free:
            self._problem(
                _text(self.store),
                f"{needed:,} bytes must be free there, {free:,} are",
                "free space, or name a store on another file system",
            )
        notes.append(f"the time is for {jobs} {'users' if jobs > 1 else 'user'} at once")
        return msgspec.structs.replace(
            plan,
            users=users,
            problems=[_clean(one) for one in self.problems],
            notes=notes,
            measured=list(measured.values()),
            bytes_to_write=sum(one.bytes_to_write for one in users),
            free_needed=needed,
            free=free,
            seconds=round(wall_time(users, jobs), 3),
        ).sealed()

    def _problem(self, where: str, what: str, hint: str) -> None:
        self.problems.append(problem_at(where, what, hint))


class _Reading:
    """What the records of a source come to; moves the bar on by what they are likely to have been in the file."""

    def __init__(self, nbytes: int, bar: Any) -> None:
        self.records, self.memory, self.hash = 0, 0, StateHash.EMPTY
        self._left, self._bar = nbytes, bar

    def add(self, batch: pa.RecordBatch) -> None:
        self.records += batch.num_rows
        self.memory += batch.nbytes
        self.hash = self.hash.add(row_hashes(batch))
        step = min(batch.nbytes, self._left)
        self._left -= step
        self._bar.update(step)


def _planned(source: Source, inputs: list[Input], read: _Reading) -> PlannedUser:
    return PlannedUser(
        uid=source.uid,
        kind=source.kind,
        base=str(source.base),
        inputs=inputs,
        operations=source.operations(),
        records=read.records,
        state_hash=read.hash.hexdigest(),
        bytes_to_write=0,
        seconds=0.0,
        notes=source.notes(),
    )


def _measured(samples: Sequence[Sample]) -> tuple[dict[str, Measured], list[str]]:
    """What was measured, by kind, and notes on what could not be."""
    found: dict[str, Measured] = {}
    notes = []
    for kind, sample in choose(samples).items():
        try:
            found[kind] = measure(sample)
        except (MeshlabError, OSError) as error:
            notes.append(f"no sample of kind {kind} could be converted, so its times are guesses: {_text(str(error))}")
    return found, notes


def _where(source: Source) -> str:
    return _text(source.paths[0] if len(source.paths) == 1 else source.base)


def _text(value: object) -> str:
    """Text that JSON can hold: bytes of names that are no UTF-8 show as escapes."""
    return str(value).encode("utf-8", "backslashreplace").decode()


def _clean(problem: Problem) -> Problem:
    return Problem(*map(_text, problem))


def _size(path: Path) -> int:
    try:
        return os.lstat(path).st_size
    except OSError:
        return 0


def _stamp(path: Path) -> tuple[int, int, int]:
    with storage_errors("read", path):
        status = os.stat(path)
    return status.st_ino, status.st_size, status.st_mtime_ns


# Ids ----------------------------------------------------------------------------------


class _UserIds(NamedTuple):
    hashes: list[Any]

    def add(self, batch: pa.RecordBatch) -> None:
        """Keep 64 bits of every id."""
        self.hashes.append(_hashes(batch["id"]))


class _Ids:
    """Memory ids that stand with more than one user, told by 64 bits of each."""

    def __init__(self) -> None:
        self._held: dict[str, _UserIds] = {}

    def of(self, uid: str) -> _UserIds:
        """Where to put the ids of a user."""
        return self._held.setdefault(uid, _UserIds([]))

    def notes(self, sources: Mapping[str, Source]) -> dict[str, list[str]]:
        """Notes by uid; of two users the first has it."""
        uids = [uid for uid in self._held if uid in sources]
        lengths = [sum(map(len, self._held[uid].hashes)) for uid in uids]
        if len(uids) < 2:
            return {}
        hashes = np.concatenate([np.zeros(0, np.uint64), *(part for uid in uids for part in self._held[uid].hashes)])
        owner = np.repeat(np.arange(len(uids), dtype=np.int32), lengths)
        order = np.argsort(hashes, kind="stable")
        ranked = hashes[order]
        same = np.flatnonzero(ranked[1:] == ranked[:-1])
        shared: dict[tuple[int, int], list[int]] = {}
        for at in same.tolist():
            pair = int(owner[order[at]]), int(owner[order[at + 1]])
            if pair[0] != pair[1]:
                shared.setdefault(pair, []).append(int(ranked[at]))
        found: dict[str, list[str]] = {}
        for (one, other), ids in shared.items():
            named = ", ".join(_spelled(sources[uids[one]], set(ids[:_NAMED])))
            count = f"{len(ids):,} memory {'id also stands' if len(ids) == 1 else 'ids also stand'}"
            found.setdefault(uids[one], []).append(f"{count} with user {uids[other]} (each keeps its own): {named}")
        return found


def _hashes(ids: pa.Array) -> Any:
    """64 bits of each id, the same in every process."""
    from pandas.util import hash_array

    return hash_array(ids.to_numpy(zero_copy_only=False), categorize=False)


def _spelled(source: Source, wanted: set[int]) -> list[str]:
    """The ids that have some hashes."""
    found: list[str] = []
    for batch in source.batches(progress=False):
        found += (
            batch["id"].filter(pa.array(np.isin(_hashes(batch["id"]), np.array(sorted(wanted), np.uint64)))).to_pylist()
        )
        if len(found) >= len(wanted):
            break
    return found[:_NAMED]
