"""Who may do what over HTTP: what is refused writes nothing and tells nothing."""

import hashlib
import json
import os
import signal
import socket
import statistics
import subprocess
import sys
import time

import pytest
from click.testing import CliRunner

from meshlab.cli.output import Settings
from meshlab.cli.serve import command
from scoreboard.gate import PACKAGE, Gate

WEB, OPS, SCRAPE = "web-secret", "ops-secret", "scrape-secret"


def entry(name, token, users, rights):
    digest = hashlib.sha256(token.encode()).hexdigest()
    return f'[[token]]\nname = "{name}"\nsha256 = "{digest}"\nusers = {users}\nrights = {rights}\n'


FILE = (
    entry("web", WEB, ["ann", "known"], ["append", "read"])
    + entry("ops", OPS, ["*"], ["append", "read", "checkpoint", "metrics"])
    + entry("scrape", SCRAPE, [], ["metrics"])
)


@pytest.fixture(scope="module")
def guarded(tmp_path_factory):
    folder = tmp_path_factory.mktemp("guarded")
    path = folder / "tokens.toml"
    path.write_text(FILE)
    with Gate(folder / "store", "--tokens", str(path), "--host", "0.0.0.0") as gate:
        gate.tokens = path
        assert gate.append("known", token=OPS)[0] == 200
        yield gate


def tree(gate):
    return {path: path.stat().st_size for path in gate.store.rglob("*") if path.is_file()}


ROUTES = [
    ("POST", "/api/mesh/wal", '{"userId":"%s","event":1}'),
    ("POST", "/api/mesh/checkpoint", '{"userId":"%s"}'),
    ("GET", "/api/mesh/state?userId=%s", None),
    ("GET", "/api/mesh/wal/stats?userId=%s", None),
]


def ask(gate, route, uid, token):
    method, path, body = route
    headers = {} if token is None else {"Authorization": f"Bearer {token}"}
    return gate.ask(method, path.replace("%s", uid), body and body % uid, headers)


@pytest.mark.parametrize("route", [*ROUTES, ("POST", "/api/mesh/wal/batch", '{"userId":"%s","event":1}')], ids=str)
@pytest.mark.parametrize("token", [None, "wrong", WEB[:-1], WEB + "x", ""])
def test_no_token_and_a_wrong_one_are_refused_alike(route, token, guarded):
    before = tree(guarded)
    answers = [ask(guarded, route, uid, token) for uid in ("ann", "known", "nobody", "..%2fann")]
    assert {status for status, _, _ in answers} == {401}
    assert len({json.dumps(said) for _, said, _ in answers}) == 1
    assert answers[0][2]["www-authenticate"] == "Bearer"
    assert tree(guarded) == before


@pytest.mark.parametrize("route", ROUTES, ids=str)
def test_a_right_token_for_another_user_is_refused_whether_the_user_exists_or_not(route, guarded):
    guarded.append("exists", token=OPS)
    before = tree(guarded)
    answers = [ask(guarded, route, uid, WEB) for uid in ("exists", "nobody", "EXISTS")]
    assert {status for status, _, _ in answers} == {403}
    assert len({json.dumps(said) for _, said, _ in answers}) == 1
    assert tree(guarded) == before


def test_a_line_for_another_user_is_refused_and_the_others_are_written(guarded):
    lines = [{"userId": uid, "event": 1} for uid in ("ann", "bob", "ann")]
    status, said = guarded.batch(lines, {"Authorization": f"Bearer {WEB}"})
    assert (status, [one["status"] for one in said["results"]]) == (207, [200, 403, 200])
    assert not (guarded.store / "bob").exists()


@pytest.mark.parametrize(
    "uid", ["../ann", "..", "/etc/passwd", "ann/../bob", "a\\u0000", "ann%2f..", ".meshlab", "ann "]
)
@pytest.mark.parametrize(("token", "status"), [(WEB, 400), (OPS, 400)])
def test_path_tricks_are_refused_before_anything_is_touched(uid, token, status, guarded):
    before = tree(guarded)
    found, said, _ = ask(guarded, ROUTES[0], uid, token)
    assert found == status
    assert str(guarded.store) not in json.dumps(said)
    assert tree(guarded) == before


def test_a_symbolic_link_is_no_user(guarded, tmp_path):
    os.symlink(tmp_path, guarded.store / "linked")
    status, said = guarded.append("linked", token=OPS)
    assert (status, said["kind"]) == (400, "BadUserId")
    assert str(guarded.store) not in json.dumps(said)
    assert list(tmp_path.iterdir()) == []


def test_rights_are_needed_one_by_one(guarded):
    assert guarded.append("ann", token=WEB)[0] == 200
    assert ask(guarded, ROUTES[1], "ann", WEB)[0] == 403
    assert ask(guarded, ROUTES[2], "ann", WEB)[0] == 200
    for token, status in ((None, 401), (WEB, 403), (SCRAPE, 200), (OPS, 200)):
        headers = {} if token is None else {"Authorization": f"Bearer {token}"}
        assert guarded.ask("GET", "/metrics", None, headers)[0] == status
    assert guarded.append("ann", token=SCRAPE)[0] == 403


def test_health_needs_no_token_and_names_nobody(guarded):
    assert guarded.ask("GET", "/healthz")[0] == 200
    assert guarded.ask("GET", "/readyz")[1] == {"ready": True, "reasons": []}


def test_refusals_take_no_longer_for_users_who_exist(guarded):
    guarded.append("exists", token=OPS)

    def seconds(uid):
        began = time.perf_counter()
        assert guarded.append(uid, token=WEB)[0] == 403
        return time.perf_counter() - began

    pairs = [(seconds("exists"), seconds("nobody")) for _ in range(150)]
    there, not_there = (statistics.quantiles(times, n=10)[1] for times in zip(*pairs, strict=True))
    assert abs(there - not_there) < 0.3 * not_there


def test_tokens_are_not_in_the_log(guarded):
    guarded.append("ann", token=WEB)
    guarded.append("ann", token="tried-and-wrong")
    time.sleep(0.2)
    text = json.dumps(guarded.lines)
    assert '"token": "web"' in text
    assert WEB not in text
    assert "tried-and-wrong" not in text


def test_a_token_that_is_taken_out_of_the_file_is_of_no_more_use(start, tmp_path):
    path = tmp_path / "tokens.toml"
    path.write_text(FILE)
    gate = start("--tokens", str(path))
    assert gate.append("ann", token=WEB)[0] == 200
    path.write_text(entry("ops", OPS, ["*"], ["append"]))
    deadline = time.monotonic() + 10
    while gate.append("ann", token=WEB)[0] == 200:
        assert time.monotonic() < deadline
    assert gate.append("ann", token=WEB)[0] == 401
    assert gate.append("ann", token=OPS)[0] == 200
    path.write_text("oops")
    while not gate.said("tokens"):
        assert gate.append("ann", token=OPS)[0] == 200
        assert time.monotonic() < deadline


def serve(tmp_path, *options):
    command = [sys.executable, "-m", "meshlab", "--store", str(tmp_path / "store"), "serve", *options]
    environment = {**os.environ, "PYTHONPATH": str(PACKAGE)}
    return subprocess.run(command, capture_output=True, text=True, timeout=60, env=environment)


def test_another_address_than_loopback_needs_tokens(tmp_path):
    run = serve(tmp_path, "--host", "0.0.0.0", "--port", "0")
    assert run.returncode == 1
    assert "there are no tokens" in run.stderr
    assert "hint: give --tokens" in run.stderr


def test_a_port_that_is_taken_and_a_file_that_is_none_are_one_line_each(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        run = serve(tmp_path, "--port", str(taken.getsockname()[1]))
    assert run.returncode == 1
    assert run.stderr.startswith("meshlab: error: cannot listen on 127.0.0.1 port")
    run = serve(tmp_path, "--port", "0", "--tokens", str(tmp_path / "none.toml"))
    assert (run.returncode, run.stderr.count("\n")) == (1, 2)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--body", "63MiB"), "--body must be 32 MiB at most"),
        (("--batch", "33MiB"), "--batch must be 32 MiB at most"),
        (("--cors", "*"), "--cors * is no origin"),
        (("--cors", "https://app.example/"), "is no origin"),
    ],
)
def test_an_option_that_could_never_work_is_refused_at_the_start(options, said):
    run = CliRunner().invoke(command, ["--port", "0", *options], obj=Settings(None))
    assert run.exit_code != 0
    assert said in run.output


def test_an_idle_gateway_ends_at_once_with_code_0(start):
    gate = start()
    began = time.monotonic()
    assert gate.stop(signal.SIGINT) == 0
    assert time.monotonic() - began < 5
    assert [line["event"] for line in gate.lines[-2:]] == ["draining", "stopped"]
