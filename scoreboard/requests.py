"""Malformed requests to a gateway: answered at once, no error of the server, no trace in the store."""

from __future__ import annotations

import os
import time
from typing import Any

from meshlab.wal.paths import check_uid, segment_day
from scoreboard.gate import Gate
from scoreboard.hostile import hostile
from scoreboard.row import Outcome, Task

GROWTH = 8 << 20
"""Bytes the server may gain in the second half."""

BROKEN = """
import sys
from meshlab.service.gateway import posts
from meshlab.errors import BadEvent

def careless(decode, body):
    return decode(body)

posts._decoded = careless
from meshlab.__main__ import run
sys.argv[0] = "meshlab"
run()
"""
"""The twin: a gateway that does not expect bodies that are no JSON."""


def status_of(answer: bytes) -> int:
    """The status of the first answer; 0 when the connection was closed without one."""
    return int(answer.split(b" ", 2)[1]) if answer.startswith(b"HTTP/1.1 ") else 0


def send_all(gate: Gate, count: int, seed: int, outcome: Outcome) -> dict[str, set[int]]:
    """Send so many hostile requests; which statuses each kind met."""
    seen: dict[str, set[int]] = {}
    size = 0
    for number, (kind, data) in enumerate(hostile(count, seed)):
        if number == count // 2:  # by now what is loaded on first use is loaded
            size = gate.memory()
        with outcome.round(f"request {number}, {kind}"):
            began = time.monotonic()
            answer = gate.raw(data)
            if time.monotonic() - began > 1.0:  # a busy machine is slow once, a hang is one again
                began = time.monotonic()
                gate.raw(data)
                assert time.monotonic() - began < 1.0, "slow, twice"
            status = status_of(answer)
            assert status < 500, f"answered {answer[:80]!r}"
            assert str(gate.store).encode() not in answer, "it tells where the store is"
            seen.setdefault(kind, set()).add(status)
        outcome.notes[kind] += 1
    with outcome.round("memory", 0):
        assert gate.memory() - size < GROWTH, f"{gate.memory() - size:,} bytes more"
    return seen


def look_after(gate: Gate, seen: dict[str, set[int]]) -> None:
    """It still acknowledges, and the store holds logs of users with allowed names and nothing else."""
    assert seen["pretty"] == {200}, "a good request in an odd form was refused"
    assert seen["deep"] <= {207, 400}, seen["deep"]
    assert 200 not in seen["uid"], "a hostile uid was taken"
    assert gate.append("after", {"Delete": "m1"})[0] == 200, "it does not acknowledge any more"
    assert [row["id"] for row in gate.rows("after")] == ["m1"], "it acknowledged, and did not append"
    assert os.listdir(gate.store.parent) == [gate.store.name], "something beside the store"
    assert all(check_uid(name) for name in os.listdir(gate.store)), "a name that is no uid"
    odd = [path for path in gate.store.rglob("*") if not _expected(gate, path)]
    assert not odd, f"in the store: {odd[:3]}"
    errors: list[Any] = [line for line in gate.lines if not isinstance(line, dict) or line["level"] == "error"]
    assert not errors, f"in its log: {errors[:1]}"


def _expected(gate: Gate, path: Any) -> bool:
    return path.name == "wal.lock" or segment_day(path.name) is not None or path.parent == gate.store


def run(task: Task) -> None:
    """One gateway for all of them."""
    outcome, home = task.outcome, task.folder / "home"
    home.mkdir(parents=True)
    program = ("-c", BROKEN) if task.broken else ("-m", "meshlab")
    with Gate(home / "store", "--rate", "none", "--no-access-log", program=program) as gate:
        seen = send_all(gate, task.count, task.seed, outcome)
        with outcome.round("afterwards", 0):
            look_after(gate, seen)
