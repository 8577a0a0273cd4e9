"""What the gateway answers, as a process of its own, to clients that know nothing of meshlab."""

import errno
import json
import shutil
import subprocess
import threading

import pytest
import requests

from meshlab.errors import MeshlabError, StorageError, WriteFailed, storage_errors
from meshlab.service.gateway.health import shortcomings
from scoreboard.gate import EVENT

NODE = shutil.which("node")
OLD_NODE_CLIENT = """
const [base] = process.argv.slice(1);
const answer = await fetch(`${base}/api/mesh/wal`, {
  method: "POST",
  headers: { "Content-Type": "application/json" },
  body: JSON.stringify({ userId: "node", event: { type: "page_view", path: "/" } }),
});
const said = await answer.json();
if (!answer.ok || said.success !== true) throw new Error(JSON.stringify(said));
"""


@pytest.fixture
def needs_node():
    if NODE is None:
        pytest.skip("node is not installed: what it runs is left out")


# Clients of phase 1


def test_a_python_client_of_phase_1_works_as_it_is(gate):
    response = requests.post(f"{gate.url}/api/mesh/wal", json={"userId": "python", "event": EVENT}, timeout=10)
    assert response.status_code == 200
    assert response.json()["success"] is True
    assert gate.rows("python")[0]["id"] == "m1"


def test_a_javascript_client_of_phase_1_works_as_it_is(gate, needs_node):
    subprocess.run([NODE, "--input-type=module", "-e", OLD_NODE_CLIENT, gate.url], check=True, timeout=60)
    assert gate.events("node") == [{"type": "page_view", "path": "/"}]


# One event


def test_an_answer_tells_seq_and_place_of_what_is_on_disk(gate):
    first, second = (gate.append("order", {"Delete": name})[1] for name in "ab")
    rows = gate.rows("order")
    assert [(said["seq"], said["lsn"]) for said in (first, second)] == [
        (row["seq"], f"{row['segment']}:{row['offset']}") for row in rows
    ]


def test_a_pretty_printed_body_is_one_event_and_one_line(gate):
    body = json.dumps({"userId": "pretty", "event": {"a": ["line\nfeed", {}]}}, indent=4)
    assert gate.ask("POST", "/api/mesh/wal", body)[0] == 200
    assert gate.events("pretty") == [{"a": ["line\nfeed", {}]}]
    (segment,) = gate.store.glob("pretty/wal-*.log")
    assert segment.read_bytes().count(b"\n") == 1


def test_a_body_in_chunks_and_a_large_one_are_taken_like_any_other(gate):
    event = {"text": "x" * 200_000}
    body = json.dumps({"userId": "large", "event": event}).encode()
    assert requests.post(f"{gate.url}/api/mesh/wal", data=iter([body[:7], body[7:]]), timeout=10).json()["success"]
    assert requests.post(f"{gate.url}/api/mesh/wal", data=body, timeout=10).json()["success"]
    assert gate.events("large") == [event, event]


def test_a_key_makes_a_retry_the_same_event(gate):
    status, first = gate.append("keyed", key="k-1")
    assert (status, first["duplicate"]) == (200, False)
    status, again = gate.append("keyed", key='"k-1"')
    assert (status, again["duplicate"]) == (200, True)
    assert (again["seq"], again["lsn"]) == (first["seq"], first["lsn"])
    assert gate.append("keyed", {"Delete": "x"}, key="k-1")[0] == 409
    assert gate.append("keyed")[0] == gate.append("keyed")[0] == 200
    assert [row.get("key") for row in gate.rows("keyed")] == ["k-1", None, None]


def test_a_key_holds_across_restarts_and_for_another_gateway_beside_it(start):
    one = start()
    first = one.append("ann", key="k")[1]
    two = start()
    assert two.append("ann", key="k")[1] == {**first, "duplicate": True}
    one.stop()
    three = start()
    assert three.append("ann", key="k")[1] == {**first, "duplicate": True}
    assert three.append("ann", {"Delete": "x"}, key="k")[0] == 409
    assert len(three.rows("ann")) == 1


def test_users_keep_the_order_in_which_a_connection_sends(gate):
    with requests.Session() as session:
        for number in range(50):
            session.post(f"{gate.url}/api/mesh/wal", json={"userId": "row", "event": number}, timeout=10)
    assert gate.events("row") == list(range(50))


def test_many_at_once_share_syncs(start):
    gate = start()

    def work(name):
        with requests.Session() as session:
            for number in range(20):
                body = {"userId": "ann", "event": {"Delete": f"{name}-{number}"}}
                assert session.post(f"{gate.url}/api/mesh/wal", json=body, timeout=30).status_code == 200

    threads = [threading.Thread(target=work, args=(name,)) for name in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    ids = [row["id"] for row in gate.rows("ann")]
    assert len(ids) == len(set(ids)) == 320
    for name in range(16):
        assert [one for one in ids if one.startswith(f"{name}-")] == [f"{name}-{number}" for number in range(20)]
    syncs = float(metric(gate, "meshlab_frames_per_sync_count"))
    assert syncs < 320


def metric(gate, name):
    text = gate.ask("GET", "/metrics")[1].decode()
    (value,) = [line.split()[-1] for line in text.splitlines() if line.split()[0] == name]
    return value


# A batch


def test_a_batch_has_a_status_per_line_and_a_bad_one_does_not_sink_the_rest(gate):
    lines = [
        {"userId": "b1", "event": {"Delete": "a"}, "key": "k1"},
        '{"userId":"b1","event":\n',
        {"userId": "../b1", "event": 1},
        "\n",
        {"userId": "b2", "event": {"Insert": {"amplitude": 1}}},
        {"userId": "b2", "event": "two"},
        {"userId": "b1", "event": {"Delete": "a"}, "key": "k1"},
        {"userId": "b1", "event": {"Delete": "b"}, "key": "k1"},
        {"userId": "b1", "event": {"Delete": "c"}},
    ]
    status, said = gate.batch(lines)
    assert status == 207
    assert [(one["line"], one["status"]) for one in said["results"]] == [
        (1, 200),
        (2, 400),
        (3, 400),
        (5, 400),
        (6, 200),
        (7, 200),
        (8, 409),
        (9, 200),
    ]
    assert (said["success"], said["written"], said["failed"]) == (False, 4, 4)
    assert [row["id"] for row in gate.rows("b1")] == ["a", "c"]
    assert gate.events("b2") == ["two"]
    assert gate.batch(lines[-1:])[0] == 200


def test_a_batch_takes_no_key_in_its_head(gate):
    status, said = gate.batch([{"userId": "b3", "event": 1}], {"Idempotency-Key": "k"})
    assert (status, said["kind"]) == (400, "Malformed")
    assert not (gate.store / "b3").exists()


def test_lines_behind_one_that_came_too_fast_are_not_written_before_it(start):
    gate = start("--rate", "5")
    status, said = gate.batch([{"userId": "ann", "event": number} for number in range(8)])
    assert status == 207
    assert [one["status"] for one in said["results"]] == [200] * 5 + [429] * 3
    assert said["results"][-1]["retryAfter"] == 1
    assert gate.events("ann") == list(range(5))
    assert gate.append("bob")[0] == 200


# Limits


def test_a_user_who_is_too_fast_is_told_when_to_come_back(start):
    gate = start("--rate", "2")
    statuses = [gate.ask("POST", "/api/mesh/wal", json.dumps({"userId": "ann", "event": 1})) for _ in range(4)]
    assert {status for status, _, _ in statuses} == {200, 429}
    refused = [headers for status, _, headers in statuses if status == 429]
    assert all(headers["retry-after"] == "1" for headers in refused)


def test_bodies_lines_and_batches_have_a_largest_size(start):
    gate = start("--body", "1kB", "--batch", "4kB", "--lines", "3")
    large = {"userId": "ann", "event": "x" * 1100}
    assert gate.append("ann", "x" * 1100)[0] == 413
    assert gate.raw(
        b"POST /api/mesh/wal HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n"
        + b"400\r\n"
        + b"x" * 1024
        + b"\r\n"
    ).startswith(b"HTTP/1.1 413")
    status, said = gate.batch([{"userId": "ann", "event": 1}, large])
    assert status == 207
    assert [one["status"] for one in said["results"]] == [200, 413]
    assert gate.batch(["1\n"] * 5)[0] == 413
    assert gate.batch([large] * 4)[0] == 413
    assert gate.events("ann") == [1]


# Reading


def test_stats_and_state_tell_what_the_log_holds(gate):
    gate.append("reader", {"Insert": {"id": "m1", "amplitude": 0.5, "theme": "dark"}})
    said = gate.append("reader", {"Insert": {"id": "m2", "content": "sea"}})[1]
    status, stats, _ = gate.ask("GET", "/api/mesh/wal/stats?userId=reader")
    assert (status, stats["success"], stats["events"], stats["insert"]) == (200, True, 2, 2)
    status, state, _ = gate.ask("GET", "/api/mesh/state?userId=reader")
    assert (status, state["records"], state["seq"]) == (200, 2, 2)
    assert state["memories"] == [{"id": "m1", "amplitude": 0.5, "theme": "dark"}, {"id": "m2", "content": "sea"}]
    before = gate.ask("GET", f"/api/mesh/state?userId=reader&at={said['lsn'].split(':')[0]}:0")[1]
    assert [memory["id"] for memory in before["memories"]] == ["m1"]


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/api/mesh/state", 400),
        ("/api/mesh/state?userId=", 400),
        ("/api/mesh/state?userId=nobody", 404),
        ("/api/mesh/state?userId=..%2Fnobody", 400),
        ("/api/mesh/state?userId=a&userId=b", 400),
        ("/api/mesh/state?userId=a&other=b", 400),
        ("/api/mesh/wal/stats?userId=nobody", 404),
        ("/api/mesh/wal/stats?at=1&userId=x", 400),
        ("/api/mesh/wal", 405),
        ("/api/mesh/nothing", 404),
        ("/../../etc/passwd", 404),
        ("/mesh-bridge.js/../app.py", 404),
        ("/%2e%2e/%2e%2e/etc/passwd", 404),
    ],
)
def test_what_is_not_there_is_told_as_json(path, status, gate):
    found, said, _ = gate.ask("GET", path)
    assert found == status
    assert said["success"] is False
    assert str(gate.store) not in json.dumps(said)


def test_a_moment_that_is_none_or_cannot_be_restored_is_an_error_of_the_client(gate):
    gate.append("past")
    assert gate.ask("GET", "/api/mesh/state?userId=past&at=yesterday")[0] == 400
    assert gate.ask("GET", "/api/mesh/state?userId=past&at=1999-01-01T00:00:00Z")[0] in (200, 404)


def test_a_checkpoint_can_be_asked_for(gate):
    gate.append("folded")
    body = json.dumps({"userId": "folded"})
    status, said, _ = gate.ask("POST", "/api/mesh/checkpoint", body)
    assert (status, said["success"], said["generation"], said["events"]) == (200, True, 1, 1)
    assert gate.ask("POST", "/api/mesh/checkpoint", json.dumps({"userId": "nobody"}))[0] == 404
    assert gate.append("folded")[1]["seq"] == 2


def test_a_checkpoint_over_damage_is_a_conflict_that_names_no_place_on_the_machine(start):
    gate = start()
    for name in "abc":
        gate.append("ann", {"Delete": name})
    segment = next(gate.store.glob("ann/wal-*.log"))
    segment.write_bytes(segment.read_bytes().replace(b'"Delete":"b"', b'"Delete":"x"'))
    status, said, _ = gate.ask("POST", "/api/mesh/checkpoint", json.dumps({"userId": "ann"}))
    assert (status, said["kind"]) == (409, "DamageFound")
    assert str(gate.store) not in json.dumps(said)


# The rest


def test_health_and_readiness_are_green_and_the_document_lists_every_route(gate):
    assert gate.ask("GET", "/healthz")[:2] == (200, {"ok": True})
    assert gate.ask("GET", "/readyz")[:2] == (200, {"ready": True, "reasons": []})
    document = gate.ask("GET", "/openapi.json")[1]
    for path, methods in document["paths"].items():
        for method in methods:
            assert gate.ask(method.upper(), path)[0] not in (404, 405, 500)


def test_a_file_in_place_of_a_user_is_an_error_of_the_request_and_no_trouble_of_the_gateway(start):
    gate = start()
    gate.append("ann")
    (gate.store / "ann.tar.gz").write_bytes(b"a backup")
    status, said = gate.append("ann.tar.gz")
    assert (status, said["kind"]) == (400, "NotAUser")
    assert str(gate.store) not in json.dumps(said)
    assert gate.ask("GET", "/api/mesh/wal/stats?userId=ann.tar.gz")[0] == 400
    assert gate.ask("GET", "/readyz")[:2] == (200, {"ready": True, "reasons": []})
    assert not gate.said("log failed")


def test_readiness_names_no_path_and_no_user(tmp_path):
    trouble = {"ann": StorageError(f"{tmp_path}/ann is odd"), "bob": WriteFailed(f"cannot append to {tmp_path}/bob")}
    with pytest.raises(StorageError) as caught, storage_errors("read", tmp_path / "cleo"):
        raise OSError(errno.EIO, f"no {tmp_path}")
    (reason,) = shortcomings(tmp_path, {**trouble, "cleo": caught.value}, 0, draining=False)
    assert reason == ("3 logs take no appends: Input/output error; an earlier write failed; the log cannot be used")


def test_every_request_is_a_line_of_json_in_the_log(start):
    gate = start()
    gate.append("ann")
    gate.ask("GET", "/caf%C3%A9%00%1b[31m")
    gate.stop()
    one, other = gate.said("request")
    assert (one["method"], one["path"], one["uid"], one["status"], one["client"]) == (
        "POST",
        "/api/mesh/wal",
        "ann",
        200,
        "127.0.0.1",
    )
    assert one["ms"] > 0
    assert one["taken"] > 20
    assert one["given"] > 20
    assert (other["path"], other["status"]) == ("/caf\u00e9\x00\x1b[31m", 404)


# Pages of other sites


def test_a_page_of_another_site_may_neither_write_nor_read(gate):
    for origin in ("https://evil.example", "null", f"https://127.0.0.1:{gate.port + 1}"):
        body = json.dumps({"userId": "stranger", "event": 1})
        status, said, headers = gate.ask(
            "POST", "/api/mesh/wal", body, {"Origin": origin, "Content-Type": "text/plain"}
        )
        assert (status, said["kind"]) == (403, "Forbidden")
        assert "access-control-allow-origin" not in headers
    assert not (gate.store / "stranger").exists()
    assert gate.ask("POST", "/api/mesh/wal", body, {"Origin": gate.url})[0] == 200


def test_a_name_that_was_made_to_mean_this_machine_is_refused(gate):
    body = json.dumps({"userId": "rebound", "event": 1})
    assert gate.ask("POST", "/api/mesh/wal", body, {"Host": "evil.example:80"})[0] == 403
    assert gate.ask("POST", "/api/mesh/wal", body, {"Host": "localhost"})[0] == 200


def test_an_origin_that_was_named_may_and_is_told_so(start):
    gate = start("--cors", "https://app.example")
    asked = {"Origin": "https://app.example", "Access-Control-Request-Method": "POST"}
    status, _, headers = gate.ask("OPTIONS", "/api/mesh/wal", None, asked)
    assert (status, headers["access-control-allow-origin"]) == (200, "https://app.example")
    body = json.dumps({"userId": "ann", "event": 1})
    status, _, headers = gate.ask("POST", "/api/mesh/wal", body, {"Origin": "https://app.example"})
    assert (status, headers["access-control-allow-origin"]) == (200, "https://app.example")
    assert gate.ask("POST", "/api/mesh/wal", body, {"Origin": "https://evil.example"})[0] == 403


def test_errors_of_the_library_have_a_status_each():
    from meshlab import errors
    from meshlab.service.gateway.refusals import verdict

    kinds = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, MeshlabError)]
    assert all(400 <= verdict(kind("x")).status < 600 for kind in kinds)
    assert verdict(errors.WalPoisoned("x")).retry_after
    assert verdict(errors.BadEvent("x")).retry_after is None
