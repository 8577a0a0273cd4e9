"""What a log is full of, from its sealed copy; and fifty policies against its trace."""

from __future__ import annotations

from functools import partial
from typing import Any

from benchmarks import loaders
from benchmarks.inputs import Inputs
from benchmarks.measure import interleave, timed
from benchmarks.report import SPEED, TIME, Bound, Row, seconds

POLICIES = 50


def measure(inputs: Inputs, rounds: int) -> list[Row]:
    return [*_attribution(inputs, rounds), *_simulation(inputs, rounds)]


def _attribution(inputs: Inputs, rounds: int) -> list[Row]:
    _check(inputs)
    contenders = {
        "op": timed(partial(_by, inputs, "op")),
        "field": timed(partial(_by, inputs, "field")),
        "id": timed(partial(_by, inputs, "id")),
        "DuckDB": timed(partial(loaders.duckdb_totals, inputs.sealed_user.root)),
    }
    figures = interleave(contenders, rounds * 3)
    theirs = figures["DuckDB"]
    shown = f"DuckDB over JSON lines, by hour and op {seconds(theirs)}"
    return [
        Row(
            f"attribution, sealed, by {key}",
            seconds(figures[key]),
            shown,
            theirs.median / figures[key].median,
            SPEED,
            Bound(20.0) if key != "id" else None,
        )
        for key in ("op", "field", "id")
    ]


def _simulation(inputs: Inputs, rounds: int) -> list[Row]:
    from meshlab.growth.policies import candidates
    from meshlab.growth.simulation import simulate
    from meshlab.growth.sizes import measured, synthetic
    from meshlab.growth.trace import trace

    found = trace(inputs.store._logs(inputs.sealed_user.uid)[0])
    policies = (candidates() * 2)[:POLICIES]
    sizes = measured(synthetic())
    simulate(found, policies[:1], sizes=sizes)  # what things cost here is measured once
    contenders = {
        "simulate": timed(partial(simulate, found, policies, sizes=sizes)),
        "load": timed(lambda: inputs.user.events(progress=False).to_arrow()),
    }
    figures = interleave(contenders, rounds)
    ours, theirs = figures["simulate"], figures["load"]
    share = ours.median / theirs.median
    shown = f"load the log once, verified {seconds(theirs)}"
    return [
        Row(f"simulate {POLICIES} policies over the trace", seconds(ours), shown, share, TIME, Bound(0.5, most=True))
    ]


def _by(inputs: Inputs, key: str) -> Any:
    return inputs.store.growth(inputs.sealed_user.uid, progress=False).by(key)


def _check(inputs: Inputs) -> None:
    """The bytes add up to the files, and to what DuckDB finds."""
    size = sum(path.stat().st_size for path in inputs.sealed_user.root.glob("wal-*.log"))
    counted = {key: _by(inputs, key).bytes for key in ("op", "field", "id")}
    theirs = sum(row["bytes"] for row in loaders.duckdb_totals(inputs.sealed_user.root).to_pylist())
    if {*counted.values(), size, int(theirs)} != {size}:
        raise SystemExit(f"growth: {counted} bytes are attributed, DuckDB finds {theirs}, the files have {size}")
