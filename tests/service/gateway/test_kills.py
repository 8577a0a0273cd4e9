"""Killed at any moment under load: every acknowledged event is in the log, once; nothing is there twice."""

import http.client
import json
import random
import signal
import socket
import threading
import time
from collections import Counter

from scoreboard.gate import request
from scoreboard.sampling import EVERY

from .limits import full_disk

SEED = 7
ROUNDS = 30 if EVERY else 3
"""Three kills take seconds; MESHLAB_EVERY=1 makes it thirty."""

CLIENTS, USERS = 8, 3


class Client(threading.Thread):
    """Sends one event after the other, each with a key and until it is acknowledged; tells which were."""

    def __init__(self, number, port, end):
        super().__init__()
        self.number, self.end = number, end
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
        self.acknowledged = []
        self.sent = 0
        self.again = 0

    def run(self):
        while not self.end.is_set():
            event = f"{self.number}-{self.sent}"
            self.sent += 1
            body = json.dumps({"userId": f"u{self.number % USERS}", "event": {"Delete": event}})
            while not self._send(event, body):
                self.again += 1
                time.sleep(0.05)
        self._connection.close()

    def _send(self, event, body):
        """Whether it was acknowledged; a connection that failed is opened anew the next time."""
        try:
            self._connection.request("POST", "/api/mesh/wal", body, {"Idempotency-Key": event})
            answer = self._connection.getresponse()
            said = json.load(answer)
            if answer.status == 200:
                self.acknowledged.append((event, said["lsn"]))
            return answer.status == 200
        except (OSError, ValueError, http.client.HTTPException):
            self._connection.close()
            return False


def ids(gate):
    """Id and place of every event in the store."""
    users = [path.name for path in gate.store.iterdir() if path.name != ".meshlab"]
    rows = [row for uid in users for row in gate.rows(uid) if row["op"] == "delete"]
    return [(row["id"], f"{row['segment']}:{row['offset']}") for row in rows]


def test_a_gateway_killed_under_load_keeps_what_it_acknowledged_once(start):
    print(f"seed {SEED}, {ROUNDS} kills")
    rng, end = random.Random(SEED), threading.Event()
    gate = start("--rate", "none", "--no-access-log")
    clients = [Client(number, gate.port, end) for number in range(CLIENTS)]
    for client in clients:
        client.start()
    try:
        for done in range(ROUNDS):
            while sum(len(client.acknowledged) for client in clients) < 100 * (done + 1):
                time.sleep(0.005)
            time.sleep(rng.uniform(0.0, 0.05))
            gate.process.send_signal(signal.SIGKILL)
            gate.process.wait()
            gate = start("--rate", "none", "--no-access-log", port=gate.port)
    finally:
        end.set()
        for client in clients:
            client.join(60)
    acknowledged = [pair for client in clients for pair in client.acknowledged]
    there = ids(gate)
    print(f"{len(acknowledged)} acknowledged, {sum(client.again for client in clients)} sent again")
    assert Counter(event for event, _ in there) == Counter(event for event, _ in acknowledged)
    assert set(there) == set(acknowledged)
    assert len(acknowledged) > 100 * ROUNDS


def test_the_check_sees_an_event_that_is_missing_and_one_that_is_there_twice(start):
    gate = start()
    gate.append("u0", {"Delete": "a"})
    gate.append("u0", {"Delete": "a"})
    there = Counter(event for event, _ in ids(gate))
    assert there != Counter(["a"])
    assert there != Counter(["a", "a", "b"])


def test_a_signal_under_load_answers_what_is_under_way_and_ends(start):
    end = threading.Event()
    gate = start("--no-access-log")
    clients = [Client(number, gate.port, end) for number in range(CLIENTS)]
    for client in clients:
        client.start()
    time.sleep(0.3)
    end.set()
    assert gate.stop() == 0
    began = start("--no-access-log", port=gate.port)
    for client in clients:
        client.join(60)
    acknowledged = [pair for client in clients for pair in client.acknowledged]
    assert set(ids(began)) == set(acknowledged)
    assert [line["event"] for line in gate.lines] == ["started", "draining", "stopped"]


def test_less_than_a_second_is_waited_for_answers_at_the_end_too(start):
    gate = start("--drain", "0.95s")
    data = request(json.dumps({"userId": "ann", "event": "x" * 50_000}).encode())
    with socket.create_connection(("127.0.0.1", gate.port), timeout=10) as connection:
        connection.sendall(data[:30_000])
        time.sleep(0.1)
        gate.process.send_signal(signal.SIGTERM)
        time.sleep(0.5)
        connection.sendall(data[30_000:])
        assert gate.drained(connection).startswith(b"HTTP/1.1 200")
    assert gate.stop() == 0


def test_a_full_disk_turns_the_gateway_red_and_it_mends_itself(start):
    gate = start()
    assert gate.append("ann", {"Delete": "a"})[0] == 200
    with full_disk(gate.process.pid):
        status, said, headers = gate.ask("POST", "/api/mesh/wal", json.dumps({"userId": "ann", "event": 1}))
        assert (status, said["kind"], headers["retry-after"]) == (503, "WriteFailed", "2")
        assert str(gate.store) not in json.dumps(said)
        status, said, _ = gate.ask("GET", "/readyz")
        assert (status, said["ready"]) == (503, False)
        assert "1 log take no appends: File too large" in said["reasons"][0] or "takes no" in said["reasons"][0]
        assert gate.append("ann")[0] == 503
        assert gate.ask("GET", "/healthz")[0] == 200
    deadline = time.monotonic() + 20
    while gate.ask("GET", "/readyz")[0] != 200:
        assert time.monotonic() < deadline
        time.sleep(0.1)
    assert gate.append("ann", {"Delete": "b"})[0] == 200
    assert [row["id"] for row in gate.rows("ann") if row["op"] == "delete"] == ["a", "b"]
    assert gate.said("mended")


def test_too_little_free_space_is_not_ready_but_takes_appends(start):
    gate = start("--min-free", "1000TB")
    status, said, _ = gate.ask("GET", "/readyz")
    assert status == 503
    assert "the disk is full" in said["reasons"][0]
    assert gate.append("ann")[0] == 200
