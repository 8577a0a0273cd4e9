"""Whatever comes in: no error of the server, no hang, no growth, and it still acknowledges after."""

import contextlib
import json
import socket
import threading
import time

import pytest

from meshlab.service.gateway.patience import Patience
from meshlab.service.gateway.protocol import AHEAD
from scoreboard.gate import request
from scoreboard.hostile import GOOD
from scoreboard.requests import look_after, send_all, status_of
from scoreboard.row import Outcome
from scoreboard.sampling import EVERY

SEED = 20250707
COUNT = 10_000 if EVERY else 440
"""440 take seconds; MESHLAB_EVERY=1 sends ten thousand."""


def test_hostile_requests_are_answered_at_once_and_leave_no_trace(start):
    gate, outcome = start("--rate", "none", "--no-access-log"), Outcome()
    seen = send_all(gate, COUNT, SEED, outcome)
    print(f"seed {SEED}, {COUNT} requests: {seen}")
    assert not outcome.failures, outcome.failures[:5]
    look_after(gate, seen)


def test_a_body_that_comes_drop_by_drop_is_cut_off_and_holds_up_nobody(start):
    gate = start("--timeout", "0.5s")
    data = request(GOOD)
    answers = []

    def drip():
        with socket.create_connection(("127.0.0.1", gate.port), timeout=10) as connection:
            began = time.monotonic()
            try:
                for at in range(len(data)):
                    connection.sendall(data[at : at + 1])
                    time.sleep(0.02)
            except OSError:
                pass
            answers.append((status_of(gate.drained(connection)), time.monotonic() - began))

    threads = [threading.Thread(target=drip) for _ in range(30)]
    for thread in threads:
        thread.start()
    times = []
    while any(thread.is_alive() for thread in threads):
        began = time.monotonic()
        assert gate.append("quick")[0] == 200
        times.append(time.monotonic() - began)
    assert {status for status, _ in answers} <= {408, 0}
    assert 408 in {status for status, _ in answers}
    assert max(seconds for _, seconds in answers) < 5
    assert max(times) < 1
    assert not (gate.store / "good").exists()


def test_a_client_that_says_nothing_is_let_go(start):
    gate = start("--timeout", "0.3s")
    with socket.create_connection(("127.0.0.1", gate.port), timeout=10) as connection:
        assert gate.drained(connection) == b""
    with socket.create_connection(("127.0.0.1", gate.port), timeout=10) as connection:
        connection.sendall(request(GOOD))
        assert connection.recv(65_536).startswith(b"HTTP/1.1 200")
        connection.sendall(b"\r\n")
        assert status_of(gate.drained(connection)) in (0, 408)


def test_a_client_that_does_not_take_its_answer_is_let_go(start):
    gate = start("--timeout", "0.5s")
    gate.batch([{"userId": "ann", "event": {"Insert": {"id": f"m{at}", "content": "x" * 8000}}} for at in range(900)])
    with socket.socket() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.settimeout(20)
        connection.connect(("127.0.0.1", gate.port))
        connection.sendall(b"GET /api/mesh/state?userId=ann HTTP/1.1\r\nHost: localhost\r\n\r\n")
        deadline = time.monotonic() + 20
        while not gate.said("request") or not gate.said("request")[-1]["path"].endswith("state"):
            assert time.monotonic() < deadline
            time.sleep(0.05)
    assert gate.append("ann")[0] == 200


def test_a_state_keeps_its_place_among_the_reads_until_it_is_sent(start):
    gate = start("--timeout", "60s")  # nobody is cut off for being slow meanwhile
    text = "x" * 8000
    gate.batch([{"userId": "ann", "event": {"Insert": {"id": f"m{at}", "content": text}}} for at in range(900)])
    with contextlib.ExitStack() as stack:
        for _ in range(8):
            connection = stack.enter_context(socket.socket())
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            connection.connect(("127.0.0.1", gate.port))
            connection.sendall(b"GET /api/mesh/state?userId=ann HTTP/1.1\r\nHost: localhost\r\n\r\n")
            connection.recv(100)
        assert gate.ask("GET", "/api/mesh/state?userId=ann")[0] == 503
    deadline = time.monotonic() + 20
    while gate.ask("GET", "/api/mesh/state?userId=ann")[0] != 200:
        assert time.monotonic() < deadline
        time.sleep(0.1)


def test_an_answer_that_is_not_taken_counts_as_waiting(start):
    gate = start("--lines", "60000")

    def waiting():
        (line,) = [line for line in gate.ask("GET", "/metrics")[1].decode().splitlines()
                   if line.startswith("meshlab_waiting_bytes ")]  # fmt: skip
        return float(line.split()[1])

    deadline = time.monotonic() + 20
    with socket.socket() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.connect(("127.0.0.1", gate.port))
        line = json.dumps({"userId": "." * 90, "event": 1}).encode() + b"\n"
        connection.sendall(request(line * 60_000, path="/api/mesh/wal/batch"))
        connection.recv(100)
        assert waiting() > 8_000_000
    while waiting() > 1_000:
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.mark.parametrize(("taken", "pause", "is_cut"), [(0, 31.0, True), (64_000, 29.0, True), (64_000, 0.9, False)])
def test_an_answer_must_be_taken_at_a_least_rate_for_as_long_as_it_lasts(taken, pause, is_cut):
    patience, now = Patience(30.0), 0.0
    for _ in range(100):
        patience.pause(now, 80_000)
        now += pause
        if patience.is_over(now):
            break
        patience.resume(now, 80_000 - taken)
    assert patience.is_over(now) == is_cut
    assert now < 100


@pytest.mark.parametrize("behind", [b"GARBAGE\r\n\r\n", b"\x00\x01\x02", b"GET / HTTP/1.1\r\nA\x00: b\r\n\r\n"])
def test_a_whole_request_is_answered_whatever_comes_behind_it(behind, gate):
    uid = f"whole{len(behind)}"
    body = json.dumps({"userId": uid, "event": 1}).encode()
    answer = gate.raw(request(body) + behind)
    assert status_of(answer) == 200
    assert answer.count(b"HTTP/1.1") <= 2
    assert gate.events(uid) == [1]


def test_requests_on_one_connection_are_answered_in_their_order(gate):
    bodies = [json.dumps({"userId": "piped", "event": at}).encode() for at in range(30)]
    answer = gate.raw(b"".join(map(request, bodies)) + b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
    assert [part[:3] for part in answer.split(b"HTTP/1.1 ")[1:]] == [b"200"] * 31
    assert [json.loads(part.split(b"\r\n\r\n")[1])["seq"] for part in answer.split(b"HTTP/1.1 ")[1:31]] == list(
        range(1, 31)
    )
    assert gate.events("piped") == list(range(30))


def test_only_so_many_requests_are_taken_ahead_and_those_are_answered(gate):
    hello = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n"
    # The connection is closed with the rest unread, which may cost the client its last answers.
    assert 0 < gate.raw(hello * 5_000).count(b"HTTP/1.1 200") <= 1 + AHEAD
    body = json.dumps({"userId": "ahead", "event": "x" * 100_000}).encode()
    assert gate.raw(request(body) * 20).count(b"HTTP/1.1 200") == 20
    assert gate.ask("GET", "/healthz")[0] == 200


def test_a_trailer_is_no_header(gate):
    body = json.dumps({"userId": "trailer", "event": 1}).encode()
    chunks = b"%x\r\n%b\r\n0\r\nIdempotency-Key: late\r\n\r\n" % (len(body), body)
    assert status_of(gate.raw(request(chunks, b"Transfer-Encoding: chunked", length=False))) == 200
    assert "key" not in gate.rows("trailer")[0]


def test_one_connection_too_many_is_told_to_come_back(start):
    gate = start("--connections", "2")
    with (
        socket.create_connection(("127.0.0.1", gate.port), timeout=10),
        socket.create_connection(("127.0.0.1", gate.port), timeout=10),
    ):
        answer = gate.raw(b"")
    assert status_of(answer) == 503
    assert b"retry-after: 1" in answer
    assert gate.append("ann")[0] == 200


def test_what_is_refused_before_it_is_a_request_has_its_line_and_is_counted(start):
    gate = start("--timeout", "0.4s", "--connections", "3", "--batch", "1kB")
    chunk = b"10000\r\n" + b"x" * 0x10000 + b"\r\n"
    batch = request(chunk * 40, b"Transfer-Encoding: chunked", path="/api/mesh/wal/batch", length=False)
    told = [gate.raw(b"GARBAGE\r\n\r\n"), gate.raw(b"GET / HTTP/1.1\r\na: ", pieces=[(0.1, b"x" * 32_800)])]
    told.append(gate.raw(request(GOOD)[:-3], pieces=[(0.8, b"")]))
    told.append(gate.raw(batch))
    with contextlib.ExitStack() as stack:
        for _ in range(3):
            stack.enter_context(socket.create_connection(("127.0.0.1", gate.port), timeout=10))
        told.append(gate.raw(b""))
    statuses = [400, 431, 408, 413, 503]
    assert [status_of(answer) for answer in told] == statuses
    time.sleep(0.5)
    text = gate.ask("GET", "/metrics")[1].decode()
    for status in statuses:
        assert any("meshlab_requests_total" in line and f'"{status}"' in line for line in text.splitlines())
    gate.stop()
    lines = [(line["status"], line["client"]) for line in gate.said("request")]
    assert lines[:-1].count((400, "127.0.0.1")) == 1
    assert {(status, "127.0.0.1") for status in statuses} <= set(lines)
