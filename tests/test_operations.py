"""The pages on operations and the gateway do not drift: commands run, defaults and log events are those of the code."""

import os
import re
import shlex
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
from click.testing import CliRunner

from meshlab.cli import main
from meshlab.cli.checkpointd import command as checkpointd
from meshlab.cli.serve import command as serve
from meshlab.service.gateway.auth import Tokens
from meshlab.testing.log import build_log

pytestmark = pytest.mark.usefixtures("keeps_priority")

REPOSITORY = Path(__file__).resolve().parents[1]
PAGE = (REPOSITORY / "docs" / "operations.md").read_text(encoding="utf-8")
GATEWAY = (REPOSITORY / "docs" / "gateway.md").read_text(encoding="utf-8")
DAEMON, SERVICE = PAGE.split("## The gateway\n")


def commands(language):
    """The command lines of meshlab in the code blocks of one language, with their comments."""
    for block in re.findall(rf"^```{language}\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL):
        yield from re.findall(r"meshlab (.*)$", block, re.MULTILINE)


@pytest.fixture
def store(tmp_path, monkeypatch):
    """Two users with a log of two days."""
    monkeypatch.chdir(tmp_path)
    for uid in ("ann", "bob"):
        log = build_log([[{"Insert": {"id": f"m{at}"}}] for at in range(4)], day="20250707", per_day=2)
        log.write(tmp_path / "mesh_store" / uid)
    monkeypatch.setenv("MESH_STORE", str(tmp_path / "mesh_store"))


@pytest.mark.parametrize("line", [line for line in commands("sh") if "# for ever" not in line])
def test_the_commands_run(line, store):
    arguments = shlex.split(line, comments=True)
    result = CliRunner().invoke(main, arguments, catch_exceptions=False)
    assert result.exit_code in ({0, 2} if "dry" in line else {0}), result.stderr


@pytest.mark.parametrize("line", [*commands("ini"), *commands("text"), *(c for c in commands("sh") if "for ever" in c)])
def test_the_services_have_options_that_exist(line, store):
    arguments = shlex.split(line.split("2>>")[0], comments=True)
    command = serve if "serve" in arguments else checkpointd
    at = arguments.index(command.name)
    context = main.make_context("meshlab", arguments[:at] + [command.name])
    params = command.make_context(command.name, arguments[at + 1 :], parent=context).params
    assert params.get("workers", 1) == 1


def test_the_thresholds_have_the_defaults_of_the_table():
    told = dict(re.findall(r"^\| `--(\w+)` \| (\w+) \|", DAEMON, re.MULTILINE))
    options = {option.opts[0].removeprefix("--"): option.default for option in checkpointd.params}
    assert told == {name: options[name] for name in ("bytes", "events", "age", "replay")}


def test_every_event_of_the_log_is_in_the_table_and_no_other():
    table = PAGE.split("| event | when |")[1].split("\n\n")[0]
    told = {name for row in re.findall(r"^\| (`.*?) \|", table, re.MULTILINE) for name in re.findall(r"`([^`]+)`", row)}
    source = (REPOSITORY / "meshlab" / "service" / "checkpointd.py").read_text(encoding="utf-8")
    assert told == set(re.findall(r'_log\(\s*"([^"]+)"', source))


# The gateway


def test_the_limits_of_the_gateway_have_the_defaults_of_the_table():
    table = SERVICE.split("| option | default | what it bounds |")[1].split("\n\n")[0]
    rows = re.findall(r"^\| (`--.*?) \| (.*?) \|", table, re.MULTILINE)
    told = {name: value for names, values in rows
            for name, value in zip(re.findall(r"--([\w-]+)", names), values.split(", "), strict=True)}  # fmt: skip
    options = {option.opts[0].removeprefix("--"): str(option.default) for option in serve.params}
    assert told == {name: options[name] for name in told}
    assert set(options) - set(told) == {"host", "port", "tokens", "cors", "count-user", "no-access-log"}


def test_every_event_in_the_log_of_the_gateway_is_told():
    sources = [*(REPOSITORY / "meshlab" / "service" / "gateway").glob("*.py"), REPOSITORY / "meshlab/cli/serve.py"]
    text = "".join(path.read_text(encoding="utf-8") for path in sources)
    events = set(re.findall(r'logger\.(?:info|warning|error)\(\s*"([^"]+)"', text))
    assert events
    paragraph = re.search(r"^Its log is one JSON.*?stderr: (.*)$", SERVICE, re.MULTILINE)[1]
    assert events | {"request"} == set(re.findall(r"`([a-z ]+)`", paragraph)) - {"uid"}


def test_every_alert_has_a_row_and_no_other_has_one():
    rules = (REPOSITORY / "docs" / "monitoring" / "alerts.yml").read_text(encoding="utf-8")
    assert set(re.findall(r"alert: (\w+)", rules)) == set(re.findall(r"`(Meshlab\w+)`", SERVICE))


def test_the_token_file_of_the_page_is_one(tmp_path):
    (text,) = re.findall(r"^```toml\n(.*?)^```$", GATEWAY, re.MULTILINE | re.DOTALL)
    path = tmp_path / "tokens.toml"
    path.write_text(text)
    tokens = Tokens(path, steady=time.monotonic)
    assert tokens.grant("Bearer web token").users == {"ann", "bob"}
    assert tokens.grant("Bearer prometheus token").rights == {"metrics"}


def test_every_route_of_the_page_is_one_of_the_gateway_and_no_other_is():
    source = (REPOSITORY / "meshlab" / "service" / "gateway" / "app.py").read_text(encoding="utf-8")
    routes = {(verb, path) for verb, path in re.findall(r'\("(GET|POST)", f?"(.*?)"\)', source)}
    routes = {(verb, path.replace("{WAL}", "/api/mesh/wal")) for verb, path in routes} | {("POST", "/api/mesh/wal")}
    rows = GATEWAY.split("| route | what it does |")[1].split("\n\n")[0]
    told = set(re.findall(r"`(GET|POST) (/[\w./-]+)", rows))
    assert told - {("GET", "/mesh-bridge.js"), ("GET", "/mesh-bridge.d.ts")} == routes


@pytest.fixture
def shell(store, tmp_path):
    """Run a script with ``meshlab`` on the path, in the folder of the store; ports are made free ones."""
    program = tmp_path / "bin" / "meshlab"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m meshlab "$@"\n')
    program.chmod(0o755)
    paths = {"PATH": f"{program.parent}{os.pathsep}{os.environ['PATH']}", "PYTHONPATH": str(REPOSITORY)}
    environment = {**os.environ, **paths}

    def run(script):
        command = ["bash", "-emc", script]
        return subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120)

    return run


def test_the_restore_drill_runs_as_it_stands(shell, tmp_path):
    for tool in ("bash", "curl", "cmp"):
        assert shutil.which(tool), f"{tool} is needed for this test"
    copy, served = re.findall(r"^```bash\n(.*?)^```$", SERVICE, re.MULTILINE | re.DOTALL)
    run = shell(copy)
    assert run.returncode == 0, run.stderr
    assert (tmp_path / "restored.json").stat().st_size > 40
    run = shell(served)
    assert run.returncode == 0, run.stdout + run.stderr
    assert '"success":true' in run.stdout
    assert '"records":4' in (tmp_path / "served.json").read_text()


def test_the_drill_would_see_a_memory_that_is_missing(shell, tmp_path):
    copy, _ = re.findall(r"^```bash\n(.*?)^```$", SERVICE, re.MULTILINE | re.DOTALL)
    (segment, *_) = sorted((tmp_path / "mesh_store" / "ann").glob("wal-*.log"), reverse=True)
    copied, *_, restored, live, compared = copy.splitlines(keepends=True)
    run = shell("".join([copied, f"rm drill/ann/{segment.name}\n", restored, live, compared]))
    assert run.returncode != 0
    assert "differ" in run.stdout + run.stderr or "EOF" in run.stderr


def test_a_token_is_made_as_the_page_says(shell):
    (script,) = re.findall(r"^```bash\n(.*?)^```$", GATEWAY, re.MULTILINE | re.DOTALL)
    run = shell(script)
    assert re.fullmatch(r"[0-9a-f]{64}\s+-\n", run.stdout)
