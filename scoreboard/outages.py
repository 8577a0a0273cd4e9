"""An object store that fails at any request of a push, a pull or a retention."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from itertools import count as numbers
from pathlib import Path
from typing import Any

from meshlab.remote import push as pushes
from meshlab.remote.bucket import MemoryBucket
from meshlab.times import DAY
from scoreboard.row import Outcome, Task
from scoreboard.sites import Faulty, Site, copy_of, grow, insert, restorable
from scoreboard.twins import either

WAYS: dict[str, dict[str, Any]] = {"for ever": {"forever": True}, "lost answer": {"lost": True}, "once": {}}


def following(number: int, stride: int) -> int:
    """The request to fail after this one: of the first two each, then one in so many."""
    return number + (1 if number < 2 else stride)


def outages(site: Site, folder: Path, work: Callable[[Site], object], *, stride: int = 1, **way: Any) -> Iterator[Any]:
    """Fail requests of ``work`` in turn; yields the number, the machine and the bucket after it."""
    number = 0
    while True:
        number = following(number, stride)
        inner = copy_of(site.remote.bucket.inner)
        shutil.copytree(site.path, folder / str(number) / "store")
        faulty = Faulty(inner, number, **way)
        machine = Site(folder / str(number) / "store", faulty, now=site.now)
        with suppress(Exception):
            work(machine)
        yield number, machine, inner
        if not faulty.hits:
            return
        faulty.nth = 0
        shutil.rmtree(folder / str(number))


def pulled(machine: Site, at: Any) -> None:
    """Pull into a store beside that of the machine."""
    Site(machine.path.parent / "new", machine.remote.bucket.inner).pull(at=at)


@contextmanager
def image_first() -> Iterator[list[Any]]:
    """The twin: a push that puts the image before the blocks it names."""
    late: list[Any] = []
    put_all, commit = pushes._Push._put_all, pushes._Push._commit

    def held_back(self: Any, *args: Any) -> Any:
        held = self.bucket.put
        self.bucket.put = lambda key, data: late.append((held, key, data))
        try:
            return put_all(self, *args)
        finally:
            del self.bucket.put

    def then_blocks(self: Any, *args: Any) -> Any:
        done = commit(self, *args)
        while late:
            held, key, data = late.pop()
            held(key, data)
        return done

    pushes._Push._put_all, pushes._Push._commit = held_back, then_blocks  # type: ignore[method-assign]
    try:
        yield late
    finally:
        pushes._Push._put_all, pushes._Push._commit = put_all, commit  # type: ignore[method-assign]


class Aged(MemoryBucket):
    """A bucket by whose clock every put is two days after the one before."""

    def put(self, key: str, data: bytes) -> None:
        """Put, later."""
        super().put(key, data)
        self._held[key] = bytes(data), len(self._held) * 2 * DAY

    def copy(self) -> Aged:
        """The same objects at the same times."""
        again = Aged()
        again._held = dict(self._held)
        return again


def grown(folder: Path, steps: int) -> tuple[Site, str, str]:
    """A user who was pushed and has gained days since; the states of then and now."""
    site = Site(folder / "store", MemoryBucket())
    for step in range(2):
        grow(site, step)
    site.push()
    before = site.state()
    for step in range(2, steps):
        grow(site, step)
    return site, before, site.state()


def pushing(outcome: Outcome, folder: Path, steps: int, way: str, late: list[Any]) -> None:
    """A push that is cut leaves the image of before or of after, and the next one heals it."""
    site, before, after = grown(folder / "push", steps)
    for number, machine, inner in outages(site, folder / "cut", lambda machine: machine.push(), **WAYS[way]):
        late.clear()
        with outcome.round(f"push, request {number}, {way}"):
            found = restorable(inner, folder / "restored" / str(number))
            assert found in (before, after), "neither as before nor as after"
            machine.append(insert("while it was out"))
            machine.remote.bucket.inner.nth = 0
            healed = machine.push()
            assert healed.status in ("pushed", "nothing new") and not healed.forks, f"{healed.status}"
            assert restorable(inner, folder / "healed" / str(number)) == machine.state(), "the next push"


def pulling(outcome: Outcome, folder: Path, steps: int, way: str) -> None:
    """A pull that is cut leaves no user, and the next one a whole one, of now or of an earlier moment."""
    site, _, state = grown(folder / "pull", steps)
    site.push()
    moment = site.now - 2 * DAY
    for at, wanted in {None: state, moment: site.state(at=moment)}.items():
        for number, machine, inner in outages(site, folder / f"cut{at}", partial(pulled, at=at), **WAYS[way]):
            with outcome.round(f"pull, request {number}, {way}"):
                target, hit = machine.path.parent / "new", machine.remote.bucket.inner.hits
                assert (target / "ann").exists() == (not hit), "a user in part"
                again = Site(target, inner)
                if hit:
                    assert again.pull(at=at).status == "pulled", "the next pull"
                assert again.state() == wanted, "another state"


def retaining(outcome: Outcome, folder: Path, steps: int, way: str) -> None:
    """A retention that is cut takes nothing that is still wanted."""
    site = Site(folder / "store", Aged())
    for step in range(max(4, steps // 2)):
        grow(site, step)
        site.push()
        site.later()
    state = site.state()
    for number in numbers(1):
        aged = site.remote.bucket.inner.copy()
        faulty = Faulty(aged, number, **WAYS[way])
        with suppress(Exception):
            Site(site.path, faulty, now=site.now).remote.retain("ann", days=2, apply=True)
        with outcome.round(f"retention, request {number}, {way}"):
            assert restorable(aged, folder / f"restored{number}") == state, "after the outage"
            (user,) = Site(site.path, aged, now=site.now).remote.retain("ann", days=2, apply=True).users
            assert not user.error, f"the next retention: {user.error}"
            assert restorable(aged, folder / f"healed{number}") == state, "after the next retention"
        if not faulty.hits:
            return


def run(task: Task) -> None:
    """Every request, in every way; ``count`` says how long the life of the user is."""
    outcome = task.outcome
    steps = 16 if task.count > 100 else 5
    with either(task.broken, image_first) as late:
        for way in WAYS if task.count > 100 else ["for ever"]:
            folder = task.folder / way
            pushing(outcome, folder / "push", steps, way, late or [])
            if task.count > 100 and not task.broken:
                if way != "lost answer":  # a pull puts nothing
                    pulling(outcome, folder / "pull", steps, way)
                retaining(outcome, folder / "retain", steps, way)
