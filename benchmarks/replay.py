"""Replay of the log to its live records, beside a loop over dicts and a query."""

from __future__ import annotations

import math
from functools import partial
from typing import Any

from benchmarks import loaders
from benchmarks.inputs import Inputs
from benchmarks.measure import Figure, interleave, timed
from benchmarks.plain import replay_by_orjson
from benchmarks.report import SPEED, Bound, Row, seconds

LOOP, QUERY = "orjson and a dict", "DuckDB, one query"


def measure(inputs: Inputs, rounds: int) -> list[Row]:
    for user in (inputs.user, inputs.sealed_user):
        _check(user)
    contenders = {
        "cold": timed(partial(_state, inputs.user)),
        "sealed": timed(partial(_state, inputs.sealed_user)),
        LOOP: timed(partial(replay_by_orjson, inputs.sealed_user.root)),
        QUERY: timed(partial(loaders.duckdb_replay, inputs.sealed_user.root)),
    }
    figures = interleave(contenders, rounds)
    bounds = {"cold": (Bound(2.0), Bound(4.0)), "sealed": (Bound(5.0), Bound(10.0))}
    works = {"cold": "replay, cold and verified", "sealed": "replay, sealed"}
    return [
        _row(work, figures[ours], name, figures[name], *(bounds[ours] if name == LOOP else (None, None)))
        for ours, work in works.items()
        for name in (LOOP, QUERY)
    ]


def _row(work: str, ours: Figure, name: str, theirs: Figure, floor: Bound | None, aim: Bound | None) -> Row:
    return Row(work, seconds(ours), f"{name} {seconds(theirs)}", theirs.median / ours.median, SPEED, floor, aim)


def _state(user: Any) -> Any:
    return user.state(progress=False)


def _check(user: Any) -> None:
    """All come to the same records: the loop field by field, the query in its number and one field's sum."""
    expected = replay_by_orjson(user.root)
    found = loaders.duckdb_replay(user.root)
    heights = [record["amplitude"] for record in expected.values()]
    if len(found) != len(expected) or not math.isclose(sum(found["amplitude"].to_pylist()), sum(heights)):
        raise SystemExit(f"replay: DuckDB finds {len(found)} records, the loop over dicts {len(expected)}, or others")
    for record in user.state(progress=False).to_pylist():
        if expected.pop(record["id"], None) != record:
            raise SystemExit(f"replay: the record {record['id']} differs from what the loop over dicts found")
    if expected:
        raise SystemExit(f"replay: {len(expected)} records are missing")
