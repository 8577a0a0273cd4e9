"""Durable events acknowledged per second over HTTP, with 64, 16 and 1 connections."""

from __future__ import annotations

import selectors
import socket
import time
from contextlib import ExitStack
from itertools import cycle

import msgspec

from benchmarks.inputs import Inputs, sample_dicts
from benchmarks.measure import Figure, interleave
from benchmarks.report import SPEED, Bound, Row, rate
from benchmarks.servers import PATH, contender, gateway

CONNECTIONS = (64, 16, 1)
SECONDS = 3.0
_WARM = 0.5

OURS = "meshlab serve"
SQLITE = {"sqlite_async": "FastAPI + SQLite FULL, async", "sqlite_threads": "FastAPI + SQLite FULL, threads"}
PHASE_1 = "phase-1 way, no sync"


def measure(inputs: Inputs, rounds: int) -> list[Row]:
    folder = inputs.scratch("http")
    requests = _requests()
    with ExitStack() as servers:
        ports = {OURS: servers.enter_context(gateway(folder / "store"))}
        for app, name in {**SQLITE, "phase1": PHASE_1}.items():
            ports[name] = servers.enter_context(contender(app, folder / app))
        figures = interleave(
            {
                f"{name}, {count}": lambda port=port, count=count: acknowledged(port, count, requests)
                for count in CONNECTIONS
                for name, port in ports.items()
            },
            rounds,
        )
    return [row for count in CONNECTIONS for row in _rows(figures, count)]


def _rows(figures: dict[str, Figure], count: int) -> list[Row]:
    ours = figures[f"{OURS}, {count}"]
    best = max(SQLITE.values(), key=lambda name: figures[f"{name}, {count}"].median)
    work = f"append over HTTP, durable, {count} connection{'s' * (count > 1)}"
    rows = []
    for name in (best, PHASE_1):
        theirs = figures[f"{name}, {count}"]
        bounds = (Bound(4.0), Bound(6.0)) if count == max(CONNECTIONS) and name == best else (None, None)
        rows.append(Row(work, rate(ours), f"{name} {rate(theirs)}", ours.median / theirs.median, SPEED, *bounds))
    return rows


def _requests() -> list[bytes]:
    """Requests of one user, whose events are those of the other benchmarks."""
    bodies = [msgspec.json.encode({"userId": "ann", "event": event}) for event in sample_dicts(512)]
    head = b"POST %b HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
    return [head % (PATH.encode(), len(body)) + body for body in bodies]


def acknowledged(port: int, connections: int, requests: list[bytes]) -> float:
    """Answers with status 200 per second; every connection sends its next request when it has its answer."""
    supply = cycle(requests)
    with selectors.DefaultSelector() as selector, ExitStack() as stack:
        for _ in range(connections):
            connection = stack.enter_context(socket.create_connection(("127.0.0.1", port)))
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            selector.register(connection, selectors.EVENT_READ, bytearray())
            connection.sendall(next(supply))
        _exchange(selector, supply, _WARM)
        start = time.perf_counter()
        count = _exchange(selector, supply, SECONDS)
        return count / (time.perf_counter() - start)


def _exchange(selector: selectors.BaseSelector, supply: cycle[bytes], seconds: float) -> int:
    count, end = 0, time.perf_counter() + seconds
    while time.perf_counter() < end:
        for key, _ in selector.select(1.0):
            answer = key.data
            answer += key.fileobj.recv(65_536)  # type: ignore[union-attr]
            if _is_whole(answer):
                if not answer.startswith(b"HTTP/1.1 200"):
                    raise SystemExit(f"a server answered {bytes(answer[:300])!r}")
                answer.clear()
                key.fileobj.sendall(next(supply))  # type: ignore[union-attr]
                count += 1
    return count


def _is_whole(answer: bytearray) -> bool:
    """Whether head and body are there; all servers measured give a length and lower-case or title-case names."""
    head, blank, body = answer.partition(b"\r\n\r\n")
    if not blank:
        if not answer:
            raise SystemExit("a server closed a connection")
        return False
    length = head.lower().partition(b"content-length:")[2].partition(b"\r\n")[0]
    return len(body) >= int(length)
