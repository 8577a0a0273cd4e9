"""The page on operations does not drift: its commands run, its defaults and log events are those of the code."""

import re
import shlex
from pathlib import Path

import pytest
from click.testing import CliRunner

from meshlab.cli import main
from meshlab.cli.checkpointd import command as checkpointd
from meshlab.testing.log import build_log

REPOSITORY = Path(__file__).resolve().parents[1]
PAGE = (REPOSITORY / "docs" / "operations.md").read_text(encoding="utf-8")


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
    at = arguments.index("checkpointd")
    context = main.make_context("meshlab", arguments[:at] + ["checkpointd"])
    assert checkpointd.make_context("checkpointd", arguments[at + 1 :], parent=context).params["workers"] == 1


def test_the_thresholds_have_the_defaults_of_the_table():
    told = dict(re.findall(r"^\| `--(\w+)` \| (\w+) \|", PAGE, re.MULTILINE))
    options = {option.opts[0].removeprefix("--"): option.default for option in checkpointd.params}
    assert told == {name: options[name] for name in ("bytes", "events", "age", "replay")}


def test_every_event_of_the_log_is_in_the_table_and_no_other():
    table = PAGE.split("| event | when |")[1].split("\n\n")[0]
    told = {name for row in re.findall(r"^\| (`.*?) \|", table, re.MULTILINE) for name in re.findall(r"`([^`]+)`", row)}
    source = (REPOSITORY / "meshlab" / "service" / "checkpointd.py").read_text(encoding="utf-8")
    assert told == set(re.findall(r'_log\(\s*"([^"]+)"', source))
