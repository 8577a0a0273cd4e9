"""Replay of the log to its live records, beside a loop over dicts."""

from __future__ import annotations

from functools import partial
from typing import Any

from benchmarks.inputs import Inputs
from benchmarks.measure import Figure, interleave, timed
from benchmarks.plain import replay_by_orjson
from benchmarks.report import SPEED, Bound, Row, seconds


def measure(inputs: Inputs, rounds: int) -> list[Row]:
    for user in (inputs.user, inputs.sealed_user):
        _check(user)
    contenders = {
        "cold": timed(partial(_state, inputs.user)),
        "sealed": timed(partial(_state, inputs.sealed_user)),
        "loop": timed(partial(replay_by_orjson, inputs.sealed_user.root)),
    }
    figures = interleave(contenders, rounds)
    return [
        _row("replay, cold and verified", figures, "cold", Bound(2.0), Bound(4.0)),
        _row("replay, sealed", figures, "sealed", Bound(5.0), Bound(10.0)),
    ]


def _row(work: str, figures: dict[str, Figure], name: str, floor: Bound, aim: Bound) -> Row:
    ours, theirs = figures[name], figures["loop"]
    shown = f"orjson and a dict {seconds(theirs)}"
    return Row(work, seconds(ours), shown, theirs.median / ours.median, SPEED, floor, aim)


def _state(user: Any) -> Any:
    return user.state(progress=False)


def _check(user: Any) -> None:
    """Both come to the same records, field by field."""
    expected = replay_by_orjson(user.root)
    for record in user.state(progress=False).to_pylist():
        if expected.pop(record["id"], None) != record:
            raise SystemExit(f"replay: the record {record['id']} differs from what the loop over dicts found")
    if expected:
        raise SystemExit(f"replay: {len(expected)} records are missing")
