"""A step of the slider of the replay explorer, beside a replay of the same moment."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from functools import partial
from random import Random

from benchmarks.inputs import SEED, Inputs
from benchmarks.measure import Figure, figure, tell
from benchmarks.report import Bound, Row, seconds
from meshlab.store import UserStore
from meshlab.widgets.replay import ReplayExplorer

EVENTS = 100_000
STEPS = 50
REPLAYS = 5
MILLISECONDS = "{:.0f} ms"
MOST = Bound(200, most=True)


def measure(inputs: Inputs, rounds: int) -> list[Row]:
    """The log is one of its own, of 100,000 events, with a sealed copy."""
    log = Inputs(inputs.folder, EVENTS)
    log.build()
    log.warm()
    user = log.sealed_user
    opened = _timed(lambda: ReplayExplorer(user))
    explorer = ReplayExplorer(user)
    assert explorer.slider.max == EVENTS + 1, explorer.message.value
    last, pick = explorer.slider.max, Random(SEED)
    step = figure(list(_moves(explorer, [last - 1 - at for at in range(STEPS * rounds)])))
    jump = figure(list(_moves(explorer, [pick.randrange(last) for _ in range(STEPS * rounds)])))
    replay = figure([_timed(lambda: _replay(user, explorer, pick.randrange(1, last))) for _ in range(REPLAYS)])
    tell(f"  the explorer was ready after {opened:.2f} s")
    return [
        _row("explorer, one step by key, 100,000 events", step, replay),
        _row("explorer, a jump by mouse, 100,000 events", jump, replay),
    ]


def _moves(explorer: ReplayExplorer, stops: list[int]) -> Iterator[float]:
    """Seconds that each move of the slider takes, table and figure drawn."""
    for stop in stops:
        before = explorer.place.value
        yield _timed(partial(setattr, explorer.slider, "value", stop))
        assert explorer.place.value != before, explorer.message.value


def _replay(user: UserStore, explorer: ReplayExplorer, at: int) -> object:
    assert explorer.stops is not None
    return user.state(explorer.stops[at].lsn, progress=False)


def _timed(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def _row(work: str, moved: Figure, replay: Figure) -> Row:
    return Row(work, seconds(moved), f"state(at=...) {seconds(replay)}", 1e3 * moved.median, MILLISECONDS, MOST)
