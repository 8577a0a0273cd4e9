"""Cost against the number of events, from ten thousand to ten million, and the slopes of it.

On two logarithmic scales, cost = c · events^slope is a line; the slope is that of the
least squares through the sizes from a hundred thousand on, where what every call costs
weighs no more.  One is linear, nought does not depend on the size.
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure as Canvas

from benchmarks import loaders
from benchmarks.inputs import Inputs, clock_in, sample_events
from benchmarks.measure import Figure, figure, interleave, tell, timed
from benchmarks.plain import replay_by_orjson
from benchmarks.report import Bound, Row, seconds
from meshlab.plots.plot import COLOURS, GREY
from meshlab.testing.builder import BENCHMARK_DAY
from meshlab.wal.paths import segment_name
from meshlab.wal.writer import Writer

SIZES = (10_000, 100_000, 1_000_000, 10_000_000)
FITTED = 100_000
"""Sizes from here on are in the fit."""

APPENDS = 200
LINEAR, CONSTANT = Bound(1.1, most=True), Bound(0.1, most=True)
PICTURE = Path("docs/images/scaling.png")

APPEND = "append, one, durable"
OURS = ("verify", "load, verified", "load, sealed", "replay, verified", "replay, sealed", "growth by op, sealed")
OTHERS = ("DuckDB read_json", "orjson and a dict")


def measure(inputs: Inputs, rounds: int) -> list[Row]:
    """Measure every size, draw the figure, and fit; the largest size is measured once."""
    sizes = [size for size in SIZES if size <= 10 * inputs.events]
    costs: dict[str, list[Figure]] = {}
    for size in sizes:
        these = Inputs(inputs.folder, size)
        these.build()
        these.warm()
        tell(f"  {size:,} events")
        once = 1 if size > inputs.events else rounds
        for name, cost in {**interleave(_works(these), once), APPEND: _append(these)}.items():
            costs.setdefault(name, []).append(cost)
    slopes = {name: slope(sizes, [cost.median for cost in found]) for name, found in costs.items()}
    draw(sizes, costs, slopes).savefig(PICTURE, dpi=110)
    return [_row(name, sizes, found, slopes[name]) for name, found in costs.items()]


def _works(inputs: Inputs) -> dict[str, Callable[[], float]]:
    user, sealed = inputs.user, inputs.sealed_user
    works = (
        lambda: user.verify(progress=False),
        lambda: user.events(progress=False).to_arrow(),
        lambda: sealed.events(progress=False).to_arrow(),
        lambda: user.state(progress=False),
        lambda: sealed.state(progress=False),
        lambda: inputs.store.growth(sealed.uid, progress=False).by("op"),
    )
    others = (partial(loaders.duckdb_fields, inputs.log), partial(replay_by_orjson, inputs.user.root))
    return {name: timed(work) for name, work in zip(OURS + OTHERS, works + others, strict=True)}


def _append(inputs: Inputs) -> Figure:
    """Seconds of one durable append to a copy of this log."""
    folder = inputs.scratch("scaling")
    copied = Path(shutil.copyfile(inputs.log, folder / segment_name(BENCHMARK_DAY)))
    with open(copied, "rb") as file:
        os.fsync(file.fileno())
    writer = Writer(folder, clock=clock_in(BENCHMARK_DAY))
    samples = []
    for event in sample_events(APPENDS):
        start = time.perf_counter()
        writer.append(event)
        samples.append(time.perf_counter() - start)
    writer.close()
    copied.unlink()
    return figure(samples[1:])


def slope(sizes: Sequence[int], costs: Sequence[float]) -> float:
    """The exponent of cost = c · events^slope, by least squares of the logarithms.

    >>> round(slope([10**5, 10**6, 10**7], [0.1, 1.0, 10.0]), 3)
    1.0
    """
    x, y = np.log(np.array([pair for pair in zip(sizes, costs, strict=True) if pair[0] >= FITTED])).T
    return float(np.polyfit(x, y, 1)[0])


def draw(sizes: Sequence[int], costs: Mapping[str, Sequence[Figure]], slopes: Mapping[str, float]) -> Any:
    """Seconds against events, ours in full lines, the others' dashed, each line named at its end."""
    picture = Canvas(figsize=(11.0, 5.5), layout="constrained")
    axes = picture.add_subplot()
    axes.set(xscale="log", yscale="log", xlabel="events in the log", ylabel="seconds (median)")
    axes.grid(color="#dddddd", linewidth=0.6)
    axes.spines[["top", "right"]].set_visible(False)
    for name, colour, marker in zip(costs, (*COLOURS, *COLOURS), "os^vDPX*d", strict=False):
        medians = [cost.median for cost in costs[name]]
        style = {"linestyle": "--", "color": GREY} if name in OTHERS else {"color": colour}
        axes.plot(sizes, medians, marker=marker, markersize=5, label=f"{name}: slope {slopes[name]:.2f}", **style)
    # In the order in which the lines end, from the top.
    handles, labels = axes.get_legend_handles_labels()
    order = sorted(range(len(handles)), key=lambda number: -handles[number].get_ydata()[-1])
    axes.legend(
        [handles[at] for at in order],
        [labels[at] for at in order],
        frameon=False,
        loc="center left",
        bbox_to_anchor=(1.0, 0.5),
    )
    return picture


def _row(name: str, sizes: Sequence[int], costs: Sequence[Figure], slope: float) -> Row:
    shown = f"{sizes[-1]:,} events {seconds(costs[-1])}"
    instead = f"{sizes[0]:,} events {seconds(costs[0])}"
    bound = None if name in OTHERS else CONSTANT if name == APPEND else LINEAR
    return Row(f"cost against size: {name}", shown, instead, slope, "slope {:.2f}", bound)
