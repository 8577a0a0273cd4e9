"""Retention in the bucket: what no moment of the window needs goes.

An image goes when it is no head and the images that stay lead to every moment of the
window that all of them led to.  Then go the blocks no image names.  Images go first, so
what is left is whole at every moment; and a small object says which image one follows
where those between go, so that a line stays a line.  For pushes under way blocks that are younger than
a day, by the clock of the bucket, stay, and so do images that were heads until lately.

A push may begin and end meanwhile, and put an old block again.  So everything is listed
again right before it is deleted: what was put since stays, and what an image names that came since.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence, Set
from functools import partial
from itertools import pairwise
from typing import NamedTuple

import msgspec

from meshlab.errors import MeshlabError, RemoteError
from meshlab.remote.bucket import PAGE, Found
from meshlab.remote.image import Image, ImageKey, data_prefix, images_prefix, link_key, parse_link_key
from meshlab.remote.line import NONE, Head, Images, get_image, images_in
from meshlab.remote.patience import PatientBucket
from meshlab.remote.transfer import in_turn
from meshlab.remote.windows import covers, last_moment, not_there, windows_of
from meshlab.snapshot.checkpoint import LONGEST_RETENTION
from meshlab.times import DAY, from_datetime
from meshlab.wal.chain import LONG_AGO
from meshlab.wal.writer import wall_clock

YOUNG = DAY
"""Blocks younger than this stay (µs): twice as long as a push trusts those it has put and not named."""

_ATTEMPTS = 3
"""Looks at a user who is being pushed before it is left alone."""

_FRESH = 5.0
"""Seconds for which a look is good enough to delete by."""

Interval = tuple[int, int]
"""The first and the last of some moments (µs)."""


class RetainedUser(msgspec.Struct, frozen=True, kw_only=True):
    """What retention did for one user, or would do.

    Moments from ``cutoff`` (µs) on stay restorable as far as they are.  ``images`` and
    ``blocks`` are those that stay, the others with ``gone_`` those that go.
    """

    uid: str
    cutoff: int = 0
    images: int = 0
    gone_images: list[str] = []
    blocks: int = 0
    gone_blocks: int = 0
    gone_bytes: int = 0
    young_blocks: int = 0
    applied: bool = False
    error: str = ""
    hint: str = ""


class _Plan(NamedTuple):
    """What goes of one user, by one look: ``put`` tells when its images were, ``stay`` which of them stay.

    ``listed`` is everything among the images, ``links`` what stands between those that stay.
    """

    uid: str
    cutoff: int
    put: dict[ImageKey, int]
    stay: set[ImageKey]
    listed: Set[str]
    links: set[str]
    blocks: int
    unnamed: int
    doomed: list[Found]

    @property
    def gone(self) -> list[ImageKey]:
        """The images that go."""
        return [key for key in self.put if key not in self.stay]

    def told(self, deleted: Sequence[Found], *, applied: bool) -> RetainedUser:
        """The report, when these blocks go."""
        return RetainedUser(
            uid=self.uid,
            cutoff=self.cutoff,
            images=len(self.stay),
            gone_images=[key.short for key in self.gone],
            blocks=self.blocks - len(deleted),
            gone_blocks=len(deleted),
            gone_bytes=sum(one.nbytes for one in deleted),
            young_blocks=self.unnamed - len(self.doomed),
            applied=applied,
        )


class Keeper:
    """Retention for the users of one bucket."""

    def __init__(
        self,
        bucket: PatientBucket,
        *,
        days: int | None = None,
        apply: bool = False,
        clock: Callable[[], int] = wall_clock,
    ) -> None:
        """Raises ``MeshlabError`` for a number of days that is none."""
        if days is not None and not 0 <= days <= LONGEST_RETENTION:
            raise MeshlabError(
                f"a retention of {days!r} days is none", hint=f"give whole days, from 0 to {LONGEST_RETENTION}"
            )
        self.bucket, self.days, self.apply, self.clock = bucket, days, apply, clock

    def retain(self, uid: str) -> RetainedUser:
        """Retention for one user; what is wrong is in the result."""
        try:
            return self._retain(uid)
        except MeshlabError as error:
            return RetainedUser(uid=uid, error=error.message, hint=error.hint)

    def _retain(self, uid: str) -> RetainedUser:
        for _ in range(_ATTEMPTS):
            plan = self._plan(uid)
            if not self.apply:
                return plan.told(plan.doomed, applied=False)
            if self._delete_images(plan):
                return plan.told(self._delete_blocks(plan), applied=True)
        raise RemoteError(
            f"{self.bucket.url}: {uid}: expected the same images twice, found others {_ATTEMPTS} times: "
            "it is being pushed, and nothing was deleted",
            hint="run the same command again when that push is over",
        )

    def _plan(self, uid: str) -> _Plan:
        # Blocks before images: what is put meanwhile is not among them, or younger than all of them.
        blocks = list(self.bucket.list(data_prefix(uid)))
        listed, images = self._list_images(uid)
        if not images.keys:
            raise not_there(self.bucket, uid)
        put = {key: listed[str(key)] for key in images.keys}
        now = max([*put.values(), *(one.modified for one in blocks)])
        known = dict(zip(images.keys, in_turn(partial(get_image, self.bucket), images.keys), strict=True))
        cutoff = self._cutoff(known.values())
        stay, links = _lately(put, now), set[str]()
        for head in images.heads():
            line = list(images.line(head))
            stay |= self._needed([Head(key, known[key]) for key in line], cutoff)
            links |= _links([key for key in line if key in stay])
        named = {name for key in stay for name in known[key].blocks()}
        unnamed = [one for one in blocks if one.key not in named]
        doomed = [one for one in unnamed if now - one.modified > YOUNG]
        return _Plan(uid, cutoff, put, stay, listed.keys(), links, len(blocks), len(unnamed), doomed)

    def _list_images(self, uid: str) -> tuple[dict[str, int], Images]:
        """What stands among the images of a user, and when it was put; and the images."""
        listed = {one.key: one.modified for one in self.bucket.list(images_prefix(uid))}
        return listed, images_in(listed).get(uid, NONE)

    def _delete_images(self, plan: _Plan) -> bool:
        """Delete the images that go; False, and none is, when others are there by now."""
        if not plan.gone:
            return True
        for link in plan.links - plan.listed:
            self.bucket.put(link, link.encode())
        listed, images = self._list_images(plan.uid)
        if {key: listed[str(key)] for key in images.keys} != plan.put:
            return False
        stale = [name for name in listed if parse_link_key(name) and name not in plan.links]
        self.bucket.delete([*map(str, plan.gone), *stale])
        return True

    def _delete_blocks(self, plan: _Plan) -> list[Found]:
        """Delete the blocks that go, but for those that were put again or are named by now; which they were."""
        doomed, deleted, looked = plan.doomed, list[Found](), -_FRESH
        while doomed:
            if time.monotonic() - looked >= _FRESH:
                looked = time.monotonic()
                doomed = self._still(plan, doomed)
            page, doomed = doomed[:PAGE], doomed[PAGE:]
            self.bucket.delete(one.key for one in page)
            deleted += page
        return deleted

    def _still(self, plan: _Plan, doomed: Sequence[Found]) -> list[Found]:
        """Of blocks that go, those that are as they were and that no image names which came since."""
        _, images = self._list_images(plan.uid)
        come = [key for key in images.keys if key not in plan.put]
        named = {name for key in come for name in get_image(self.bucket, key).blocks()}
        # Last, for it is this that tells of a push under way.
        there = {one.key: one.modified for one in self.bucket.list(data_prefix(plan.uid))}
        return [one for one in doomed if there.get(one.key) == one.modified and one.key not in named]

    def _cutoff(self, images: Iterable[Image]) -> int:
        """The beginning of the window: counted back from the clock or the newest event, whichever is earlier."""
        newest = max(images, key=lambda image: (image.number, image.effective))
        days = newest.retain_days if self.days is None else self.days
        known = [self.clock(), last_moment(newest)]
        known += [newest.effective] if newest.effective > LONG_AGO else []
        return min(known) - days * DAY

    def _needed(self, line: Sequence[Head], cutoff: int) -> set[ImageKey]:
        """Of a line, newest first, the head and what leads to moments of the window that those before do not."""
        kept: list[Head] = []
        reached: list[Interval] = []
        for head in line:
            if kept and any(covers(one.image, head.image) for one in kept):
                continue
            mine = self._moments(head, cutoff)
            if not kept or not is_within(mine, reached):
                kept.append(head)
                reached = joined([*reached, *mine])
        return {head.key for head in kept}

    def _moments(self, head: Head, cutoff: int) -> list[Interval]:
        """The moments of the window that an image leads to."""
        found = []
        for window in windows_of(self.bucket, head.key, head.image):
            start = LONG_AGO if window.start is None else from_datetime(window.start)
            end = from_datetime(window.end)
            if end >= cutoff:
                found.append((max(start, cutoff), end))
        return joined(found)


def _lately(put: Mapping[ImageKey, int], now: int) -> set[ImageKey]:
    """The images that were put lately, or were heads until lately: a push may be going on from one."""
    young = {key for key, moment in put.items() if now - moment <= YOUNG}
    followed = {key.parent for key in young}
    return young | {key for key in put if key.short in followed}


def _links(line: Sequence[ImageKey]) -> set[str]:
    """What must stand in the bucket so that images which stay are still one line, newest first."""
    pairs = [(newer, older) for newer, older in pairwise(line) if newer.parent != older.short]
    return {link_key(newer.uid, newer.short, older.short) for newer, older in pairs}


def joined(intervals: Iterable[Interval]) -> list[Interval]:
    """The same moments, in order, as few intervals as can be.

    >>> joined([(5, 9), (1, 3), (4, 4), (20, 30)])
    [(1, 9), (20, 30)]
    """
    found: list[Interval] = []
    for start, end in sorted(intervals):
        if found and start <= found[-1][1] + 1:
            found[-1] = found[-1][0], max(found[-1][1], end)
        else:
            found.append((start, end))
    return found


def is_within(intervals: Iterable[Interval], whole: Sequence[Interval]) -> bool:
    """Whether every moment of some intervals is one of others, which are ``joined``.

    >>> is_within([(2, 3)], [(1, 9)]), is_within([(2, 12)], [(1, 9)])
    (True, False)
    """
    return all(any(low <= start and end <= high for low, high in whole) for start, end in intervals)
