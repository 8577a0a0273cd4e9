"""Two sides of a migration, record by record: what is lost, invented, changed, duplicated, or with the wrong user.

Of every record only its id and its row hash are kept, 16 bytes and an id, one user at a
time; the contents of records that differ are read once more, for the first of them.

>>> old = pa.RecordBatch.from_pylist([{"id": "m1"}, {"id": "m2"}], RECORD_SCHEMA)
>>> difference = compare("ann", take_census([old]), take_census([old.slice(1)]))
>>> difference.lost.ids.to_pylist(), difference.same
(['m1'], 1)
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from meshlab.diff import Diff
from meshlab.snapshot.fold import ORPHAN_SCHEMA, Counts
from meshlab.snapshot.hashing import DIGEST, StateHash, row_hashes
from meshlab.snapshot.state import State
from meshlab.tables.schema import RECORD_SCHEMA, REJECT_SCHEMA, SEGMENT_SCHEMA

LOST, INVENTED, CHANGED, DUPLICATED, MOVED = "lost", "invented", "changed", "duplicated", "moved"
FAILED, MISSING, STRANGER = "failed", "user missing", "user invented"
"""Kinds of findings; the last three are about a user as a whole."""

LISTED = 1_000
"""Findings of one kind that are listed, and changed records whose fields are; all are counted."""

_SHOWN = 200
"""Characters of a value that are shown."""

_AROUND = 40

Batches = Iterable[pa.RecordBatch]


class Finding(msgspec.Struct, frozen=True):
    """One thing that is not in the new layout as it was in the old one.

    ``before`` and ``after`` are the JSON of a field, null where it is not given; ``other``
    is the user a memory moved to, or also stands with; ``text`` says the rest.
    """

    uid: str
    kind: str
    id: str = ""
    field: str = ""
    before: str | None = None
    after: str | None = None
    other: str = ""
    text: str = ""

    def __str__(self) -> str:
        if not self.id:
            return f"{self.uid}: {self.kind}: {self.text}"
        told = {
            CHANGED: f"{self.field}: {_or_absent(self.before)} became {_or_absent(self.after)}",
            DUPLICATED: f"also stands with user {self.other}, whose it is" if self.other else "stands there twice",
            MOVED: f"stands with user {self.other}",
        }
        return f"{self.uid}: {self.kind}: memory {self.id}" + (f": {told[self.kind]}" if self.kind in told else "")


def _or_absent(text: str | None) -> str:
    return "(not given)" if text is None else text


# One side -----------------------------------------------------------------------------


class Census(NamedTuple):
    """Ids and row hashes of records, in the same order."""

    ids: pa.Array
    hashes: pa.Array

    @property
    def state_hash(self) -> str:
        """The hash of the state that the records are."""
        return StateHash.EMPTY.add(self.hashes).hexdigest()

    def take(self, rows: Any) -> Census:
        """Some of the records, by their numbers."""
        rows = pa.array(rows, pa.int64())
        return Census(self.ids.take(rows), self.hashes.take(rows))

    def __len__(self) -> int:
        return len(self.ids)


def take_census(batches: Batches, progress: Callable[[int], Any] | None = None) -> Census:
    """Ids and row hashes of records in ``RECORD_SCHEMA``; ``progress`` is told their number."""
    ids: list[pa.Array] = []
    hashes: list[pa.Array] = []
    for batch in batches:
        ids.append(batch["id"].cast(pa.large_string()))
        hashes.append(row_hashes(batch))
        if progress is not None:
            progress(batch.num_rows)
    return Census(_joined(ids, pa.large_string()), _joined(hashes, DIGEST))


def _joined(parts: list[pa.Array], kind: pa.DataType) -> pa.Array:
    return pa.concat_arrays(parts) if parts else pa.array([], kind)


# Two sides of one user ----------------------------------------------------------------


@dataclass(frozen=True)
class Difference:
    """How the records of one user differ: ``changed`` and ``repeated`` are of the new side.

    ``repeated`` are ids that stand there more than once, ``same`` the number of records
    that are what they were.
    """

    uid: str
    before: int
    after: int
    same: int
    lost: Census
    invented: Census
    changed: pa.Array
    repeated: pa.Array


def compare(uid: str, old: Census, new: Census) -> Difference:
    """How two sides of a user differ; in the old one each id stands once."""
    first, repeated = _each_once(new)
    place = pc.index_in(first.ids, value_set=old.ids)
    stays = place.is_valid().to_numpy(zero_copy_only=False)
    rows_new = np.flatnonzero(stays)
    rows_old = place.drop_null().to_numpy().astype(np.int64)
    left = np.ones(len(old), bool)
    left[rows_old] = False
    same = pc.equal(old.take(rows_old).hashes, first.take(rows_new).hashes).to_numpy(zero_copy_only=False)
    return Difference(
        uid,
        before=len(old),
        after=len(new),
        same=int(same.sum()),
        lost=old.take(np.flatnonzero(left)),
        invented=first.take(np.flatnonzero(~stays)),
        changed=first.take(rows_new[~same]).ids,
        repeated=repeated,
    )


def _each_once(census: Census) -> tuple[Census, pa.Array]:
    """The first record of every id, and the ids that come again."""
    unique = pc.unique(census.ids)
    if len(unique) == len(census):
        return census, census.ids.slice(0, 0)
    firsts = pc.index_in(unique, value_set=census.ids).to_numpy().astype(np.int64)
    again = np.ones(len(census), bool)
    again[firsts] = False
    return census.take(firsts), pc.unique(census.ids.filter(pa.array(again)))


# All users ----------------------------------------------------------------------------


class Sorted(NamedTuple):
    """What became of the records of one user, told apart with a look at all the others.

    ``lost`` and ``invented`` are without those that ``moved`` (to other users),
    were ``received`` (from others), or were ``copied`` from others who still have them.
    """

    difference: Difference
    lost: pa.Array
    invented: pa.Array
    moved: list[tuple[str, str]]
    received: list[tuple[str, str]]
    copied: list[tuple[str, str]]

    @property
    def duplicated(self) -> int:
        """Records that stand twice: ids of one user, and records of others who still have them."""
        return len(self.difference.repeated) + len(self.copied)


Holders = Callable[[pa.Array], Iterator[tuple[str, pa.Array]]]
"""From row hashes to the old users who have records of them: uid, and the hashes found."""


def sort_out(differences: list[Difference], holders: Holders) -> list[Sorted]:
    """Tell records that went to another user from lost and invented ones.

    A row hash covers the id, so equal hashes are the same record.  ``holders`` is only
    asked when there are records nobody misses.
    """
    lost = _Index([(one.uid, one.lost) for one in differences])
    invented = _Index([(one.uid, one.invented) for one in differences])
    stray = [one.invented.hashes.filter(pc.invert(lost.holds(one.invented.hashes))) for one in differences]
    wanted = pc.unique(pa.chunked_array(stray, DIGEST))
    known = _Index([(uid, Census(hashes, hashes)) for uid, hashes in holders(wanted)] if len(wanted) else [])
    return [_sorted(one, lost, invented, known) for one in differences]


def _sorted(one: Difference, lost: _Index, invented: _Index, known: _Index) -> Sorted:
    gone = invented.holds(one.lost.hashes)
    came = lost.holds(one.invented.hashes)
    copies = pc.and_(known.holds(one.invented.hashes), pc.invert(came))
    return Sorted(
        one,
        lost=one.lost.ids.filter(pc.invert(gone)),
        invented=one.invented.ids.filter(pc.invert(pc.or_(came, copies))),
        moved=invented.owners(one.lost, gone),
        received=lost.owners(one.invented, came),
        copied=known.owners(one.invented, copies),
    )


class _Index:
    """Whose records have which row hashes."""

    def __init__(self, held: list[tuple[str, Census]]) -> None:
        self.uids = [uid for uid, _ in held]
        self.hashes = _joined([census.hashes for _, census in held], DIGEST)
        self.user = np.repeat(np.arange(len(held)), [len(census) for _, census in held])

    def holds(self, hashes: pa.Array) -> pa.Array:
        return pc.is_in(hashes, value_set=self.hashes)

    def owners(self, census: Census, rows: pa.Array) -> list[tuple[str, str]]:
        """Id and owner of some records."""
        found = pc.index_in(census.hashes.filter(rows), value_set=self.hashes).to_numpy(zero_copy_only=False)
        users = self.user[found.astype(np.int64)]
        return [(id, self.uids[user]) for id, user in zip(census.ids.filter(rows).to_pylist(), users, strict=True)]


def holding(uid: str, batches: Batches, hashes: pa.Array) -> Iterator[tuple[str, pa.Array]]:
    """The row hashes, out of some, that records of a user have; what ``Holders`` are made of."""
    for batch in batches:
        found = row_hashes(batch)
        found = found.filter(pc.is_in(found, value_set=hashes))
        if len(found):
            yield uid, found


# Findings -----------------------------------------------------------------------------


def findings_of(one: Sorted, limit: int = LISTED) -> list[Finding]:
    """The findings about the records of one user but for the changed ones, at most ``limit`` of a kind."""
    uid = one.difference.uid
    found = [Finding(uid, LOST, id) for id in one.lost[:limit].to_pylist()]
    found += [Finding(uid, INVENTED, id) for id in one.invented[:limit].to_pylist()]
    found += [Finding(uid, DUPLICATED, id) for id in one.difference.repeated[:limit].to_pylist()]
    found += [Finding(uid, DUPLICATED, id, other=other) for id, other in one.copied[:limit]]
    found += [Finding(uid, MOVED, id, other=other) for id, other in one.moved[:limit]]
    return found


def explain(uid: str, ids: pa.Array, old: Batches, new: Batches) -> list[Finding]:
    """Which fields of some changed records differ, and what they were and are: reads both sides."""
    diff = Diff(_state(uid, _chosen(old, ids)), _state(uid, _chosen(new, ids)))
    rows = diff.to_arrow().to_pylist()
    told = [Finding(uid, CHANGED, row["id"], row["field"], *_shown(row["before"], row["after"])) for row in rows]
    silent = sorted(set(ids.to_pylist()) - {finding.id for finding in told})
    return told + [Finding(uid, CHANGED, id, "(how a value is written)") for id in silent]


def _chosen(batches: Batches, ids: pa.Array) -> pa.Table:
    """The first record of each of some ids."""
    wanted = ids.cast(pa.string())
    held = [batch.filter(pc.is_in(batch["id"], value_set=wanted)) for batch in batches]
    table = pa.Table.from_batches([batch for batch in held if batch.num_rows], RECORD_SCHEMA)
    firsts = pc.index_in(pc.unique(table["id"]), value_set=table["id"].combine_chunks())
    return table.take(firsts)


def _state(uid: str, table: pa.Table) -> State:
    return State(
        uid,
        table,
        orphans=ORPHAN_SCHEMA.empty_table(),
        rejects=REJECT_SCHEMA.empty_table(),
        segments=SEGMENT_SCHEMA.empty_table(),
        counts=Counts(0, 0, 0, 0, 0, 0),
    )


def _shown(before: str | None, after: str | None) -> tuple[str | None, str | None]:
    """Two values, cut to where they begin to differ when they are long."""
    if max(len(before or ""), len(after or "")) <= _SHOWN:
        return before, after
    one, other = before or "", after or ""
    common = next((at for at, pair in enumerate(zip(one, other)) if pair[0] != pair[1]), min(len(one), len(other)))
    start = max(0, common - _AROUND)
    return tuple(None if text is None else _cut(text, start) for text in (before, after))  # type: ignore[return-value]


def _cut(text: str, start: int) -> str:
    part = text[start : start + _SHOWN]
    return ("…" if start else "") + part + ("…" if start + _SHOWN < len(text) else "")
