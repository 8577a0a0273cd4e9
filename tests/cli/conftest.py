"""The command line under test: in this process, or as a real one."""

import json
import os
import subprocess
import sys

import pytest
from click.testing import CliRunner

from meshlab.cli import main


@pytest.fixture
def meshlab(tmp_path, monkeypatch, keeps_priority):
    """Run a command line in this process, in an empty directory."""
    monkeypatch.chdir(tmp_path)

    def run(*args, stdin=None):
        return CliRunner().invoke(main, [str(arg) for arg in args], input=stdin, catch_exceptions=False)

    return run


@pytest.fixture
def meshlab_process(tmp_path):
    """Run a command line as a process of its own, in an empty directory."""

    def run(*args, **options):
        command = [sys.executable, "-m", "meshlab", *map(str, args)]
        return subprocess.run(command, cwd=tmp_path, capture_output=True, env=os.environ, timeout=60, **options)

    return run


@pytest.fixture
def store(meshlab, tmp_path):
    """A store of one user, ann: two inserts, a recall and a delete."""
    events = [
        {"Insert": {"id": "m1", "content": "first", "amplitude": 0.5, "access_count": 1}},
        {"Insert": {"id": "m2", "content": "second"}},
        {"Update": {"id": "m1", "amplitude": 0.75, "access_count": 2}},
        {"Delete": "m2"},
    ]
    result = meshlab("--store", "store", "append", "ann", stdin="".join(json.dumps(event) + "\n" for event in events))
    assert result.exit_code == 0, result.stderr
    return tmp_path / "store"


def json_lines(text):
    return [json.loads(line) for line in text.splitlines()]
