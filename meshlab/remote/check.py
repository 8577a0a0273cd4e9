"""Whether what a log has gained is sound: sums, chain, damage; with a verdict before the image is put.

A long segment is checked in parts, some at once.  A part begins behind a line that says
where the chain stands there; that is believed only when the part before it came to the
very same end.  From the first part on that is not plainly sound, what is left is read
again in one go, so that all that is wrong is found, and told, as by ``meshlab verify``.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Collection, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

from meshlab.errors import DamageFound, storage_errors
from meshlab.remote.image import Image
from meshlab.remote.local import Local
from meshlab.snapshot.manifest import Accepted
from meshlab.tables.digests import DuckDigests
from meshlab.wal.chain import LONG_AGO, ORIGIN, Cursor, resumed
from meshlab.wal.files import open_regular
from meshlab.wal.frame import read_tail
from meshlab.wal.lines import Reject, md5_digests
from meshlab.wal.paths import segment_name
from meshlab.wal.reader import CHUNK, Part, resolve, scan_segment, tail_run, total
from meshlab.wal.verify import is_damage, last_gone

FEW = 1 << 20
"""Bytes below which sums are computed one by one."""

PART = 32 << 20
"""Bytes of a part that is checked beside others, about."""

AT_ONCE = min(4, os.cpu_count() or 1)
"""Parts checked at once."""

_LOOK = 64 << 10
"""How far the end of a frame is looked for, from where a part might begin."""

_SHOWN = 5


class Gained(NamedTuple):
    """What the log of a user has beyond an image.

    ``ends`` is how far each segment goes now, to the end of its last whole line or
    frame; ``end`` where the chain stands there; ``accepted`` the damage that stops nobody.
    """

    ends: dict[str, int]
    end: Cursor
    accepted: list[Accepted]


def read_gain(local: Local, image: Image | None, accept: Collection[str]) -> Gained:
    """Check what the log has beyond an image.

    ``accept`` names damage as ``wal-20250707.log:1234``.  Raises ``DamageFound`` for any
    that neither it, nor a checkpoint, nor an earlier push has accepted.
    """
    known = {} if image is None else {day: file.nbytes for day, file in image.segments.items()}
    before = [] if image is None else image.accepted
    cursor = ORIGIN if image is None else image.end
    parts, days = [], sorted(day for day, size in local.sizes.items() if size > known.get(day, 0))
    gone = _gone(local)
    for day in days:
        start, stop = known.get(day, 0), local.sizes[day]
        part, cursor = scan(local.root, day, start, stop, resumed(cursor, last_gone(gone, day)))
        parts.append(part)
    ends = dict(local.sizes)
    if parts and (run := tail_run(parts[-1].rejects, ends[days[-1]])):
        ends[days[-1]] = run[0].offset
    if local.manifest is not None:
        cursor = cursor._replace(effective=max(cursor.effective, local.manifest.effective))
    return Gained(ends, cursor, before + _accept(local, resolve(parts), before, accept))


def _gone(local: Local) -> dict[str, tuple[int, bytes]]:
    """Segments that are not here any more, with the last frame each held."""
    retired = local.manifest.retired if local.manifest is not None else []
    return {one.segment: (one.seq, one.sum) for one in retired if one.segment not in local.sizes and one.seq}


def _accept(local: Local, rejects: list[Reject], before: list[Accepted], accept: Collection[str]) -> list[Accepted]:
    """The damage somebody has accepted by now; raises ``DamageFound`` for any other."""
    folded = local.manifest.accepted if local.manifest is not None else []
    known = {one[:3] for one in (*folded, *before)}
    damage = [one for one in rejects if is_damage(one) and (one.segment, one.offset, one.nbytes) not in known]
    named = {f"{segment_name(one.segment)}:{one.offset}": one for one in damage}
    if refused := {place: one for place, one in named.items() if place not in accept}:
        shown = "; ".join(f"{place}: {one.kind}, {one.reason}" for place, one in list(refused.items())[:_SHOWN])
        more = f" and {len(refused) - _SHOWN} more" if len(refused) > _SHOWN else ""
        options = " ".join(f"--accept {place}" for place in list(refused)[:_SHOWN])
        raise DamageFound(
            f"{local.root}: damage that would go into the bucket: {shown}{more}",
            hint=f"look at it with 'meshlab verify'; to push those bytes as they are: {options}",
            places=list(refused),
        )
    return [Accepted(one.segment, one.offset, one.nbytes, one.kind, one.reason) for one in damage]


# A segment


def scan(root: Path, day: str, start: int, stop: int, cursor: Cursor) -> tuple[Part, Cursor]:
    """What a range of a segment holds, and where the log stands behind it.

    A line begins at ``start``, and no frame crosses it.
    """
    done: Part | None = None
    places = list(_places(root, day, start, stop)) if stop - start >= 2 * PART and AT_ONCE > 1 else []
    if places:
        begins = [cursor, *(claim for _, claim in places)]
        bounds = [start, *(at for at, _ in places), stop]
        done, start, cursor = _sound_parts(root, day, bounds, begins)
    if start == stop and done is not None:
        return done, cursor
    rest, cursor = _scan(root, day, start, stop, cursor, line=1 if done is None else done.tally.lines + 1)
    return (rest if done is None else _joined(done, rest)), cursor


def _scan(root: Path, day: str, start: int, stop: int, cursor: Cursor, line: int = 1) -> tuple[Part, Cursor]:
    digests = md5_digests if stop - start < FEW else DuckDigests()
    scan = scan_segment(root, day, cursor, offset=start, stop=stop, line=line, digests=digests, chunk=CHUNK // AT_ONCE)
    for _ in scan:
        pass
    return scan.part, scan.end


def _places(root: Path, day: str, start: int, stop: int) -> Iterator[tuple[int, Cursor]]:
    """Where a segment can be cut, and where the chain stands there if one believes the line before."""
    path, last = root / segment_name(day), start
    with storage_errors("read", path), open(path, "rb", 0, opener=open_regular) as file:
        for at in range(start + PART, stop - PART // 2, PART):
            found = _place(os.pread(file.fileno(), _LOOK, at))
            if found is not None and last < at + found[0] < stop:
                last = at + found[0]
                yield last, found[1]


def _place(text: bytes) -> tuple[int, Cursor] | None:
    """Behind which byte the first frame ends whose last line stands whole in some text, and its seq and sum."""
    begin = text.find(b"\n") + 1
    while begin and (end := text.find(b"\n", begin) + 1):
        if (tail := read_tail(text[begin : end - 1])) is not None:
            return end, Cursor(tail.seq, tail.sum, LONG_AGO)
        begin = end
    return None


def _sound_parts(root: Path, day: str, bounds: list[int], begins: list[Cursor]) -> tuple[Part | None, int, Cursor]:
    """The parts up to the first that is not sound, as one; where that ends, and where the log stands there."""
    done, cursor = None, begins[0]
    works = [_work(root, day, *span, at) for span, at in zip(pairwise(bounds), begins, strict=True)]
    with ThreadPoolExecutor(AT_ONCE, thread_name_prefix="meshlab-check") as pool:
        waiting: deque[Future[tuple[Part, Cursor]]] = deque(pool.submit(work) for work in works)
        for high, claim in zip(bounds[1:], [*begins[1:], None], strict=True):
            part, end = waiting.popleft().result()
            if part.rejects or (claim is not None and end[:2] != claim[:2]):
                pool.shutdown(wait=False, cancel_futures=True)
                return done, bounds[0] if done is None else done.stop, cursor
            assert part.stop == high
            done = part if done is None else _joined(done, part)
            cursor = end._replace(effective=max(cursor.effective, end.effective))
    return done, bounds[-1], cursor


def _work(root: Path, day: str, low: int, high: int, at: Cursor) -> Callable[[], tuple[Part, Cursor]]:
    return lambda: _scan(root, day, low, high, at)


def _joined(one: Part, other: Part) -> Part:
    """Two parts of which the second begins where the first ends."""
    tally, rejects = total(one.tally, other.tally), one.rejects + other.rejects
    return Part(tally, rejects, one.claims + other.claims, max(one.last_event, other.last_event), one.start)
