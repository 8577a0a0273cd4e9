"""The first hour is as it is told: its commands run, on a copy of the repository, and end as they say."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.test_layers import MAX_LINES
from tests.test_public_api import MAX_IMPORT_SECONDS

REPOSITORY = Path(__file__).resolve().parents[1]
PAGE = (REPOSITORY / "CONTRIBUTING.md").read_text(encoding="utf-8")
TIME = re.compile(r"# .*(?:second|minute)")
"""A remark that names a time: the command is not cheap."""


def cheap_commands(page):
    """(command, exit code told) of all lines of shell that name no time."""
    lines = [
        line
        for block in re.findall(r"^```sh\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
        for line in block.splitlines()
    ]
    for line in lines:
        if not TIME.search(line):
            told = re.search(r"# exit code (\d)$", line)
            yield line, int(told[1]) if told else 0


@pytest.fixture
def clone(tmp_path, monkeypatch):
    """A copy of what the commands need, with ``python`` and ``meshlab`` on the path."""
    for name in ("meshlab", "tests", "scoreboard", "docs", "pyproject.toml", "README.md"):
        source, target = REPOSITORY / name, tmp_path / name
        if source.is_dir():
            shutil.copytree(source, target)
        else:
            shutil.copy(source, target)
    programs = tmp_path / "bin"
    programs.mkdir()
    for name, module in (("python", ""), ("meshlab", "-m meshlab ")):
        (programs / name).write_text(f'#!/bin/sh\nexec "{sys.executable}" {module}"$@"\n')
        (programs / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    for name in [name for name in os.environ if name.startswith("PYTEST_")]:
        monkeypatch.delenv(name)
    return tmp_path


def test_the_commands_of_the_first_hour_run_and_end_as_they_say(clone):
    commands = list(cheap_commands(PAGE))
    assert len(commands) >= 8
    for command, code in commands:
        run = subprocess.run(["sh", "-c", command], cwd=clone, capture_output=True, text=True)
        assert run.returncode == code, f"{command}\n{run.stdout[-2000:]}\n{run.stderr[-2000:]}"


def test_what_was_broken_by_hand_is_mended_by_hand(clone):
    frame = clone / "meshlab" / "wal" / "frame.py"
    sound = frame.read_text(encoding="utf-8")
    (breaking,) = [command for command, _ in cheap_commands(PAGE) if command.startswith("sed ")]
    (mending,) = [command for command, _ in cheap_commands(PAGE) if command.startswith("mv ")]
    subprocess.run(["sh", "-c", breaking], cwd=clone, check=True)
    assert frame.read_text(encoding="utf-8") != sound
    subprocess.run(["sh", "-c", mending], cwd=clone, check=True)
    assert frame.read_text(encoding="utf-8") == sound


def test_every_target_named_is_in_the_makefile():
    targets = set(re.findall(r"^(\w+):", (REPOSITORY / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    assert set(re.findall(r"(?:`|^)make (\w+)", PAGE, re.MULTILINE)) <= targets


def test_the_limits_told_are_those_the_tests_hold():
    assert f"A module has {MAX_LINES} lines at most" in PAGE
    assert f"less than {1000 * MAX_IMPORT_SECONDS:.0f} ms" in PAGE
