"""What the README shows is what happens: its commands and its Python run, its tables are complete."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from meshlab.cli import demo, main
from meshlab.cli.notebook import Rendered

pytestmark = pytest.mark.usefixtures("keeps_priority")

REPOSITORY = Path(__file__).resolve().parents[1]
README = (REPOSITORY / "README.md").read_text(encoding="utf-8")


def blocks(language):
    return re.findall(rf"^```{language}\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)


@pytest.fixture
def clone(tmp_path, monkeypatch):
    """A folder that has the samples where a clone of the repository has them, and ``meshlab`` on the path."""
    shutil.copytree(REPOSITORY / "data" / "samples", tmp_path / "data" / "samples")
    program = tmp_path / "bin" / "meshlab"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m meshlab "$@"\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("PYTHONPATH", str(REPOSITORY))
    return tmp_path


def test_the_python_runs_without_a_warning_and_prints_what_its_comments_say(clone):
    for block in blocks("python"):
        run = subprocess.run([sys.executable, "-W", "error", "-c", block], cwd=clone, capture_output=True, text=True)
        assert run.returncode == 0, run.stderr
        for told in re.findall(r"# (\[.*\])$", block, re.MULTILINE):
            assert told in run.stdout.splitlines()


def test_the_numbers_told_of_a_state_are_those_replay_finds(clone):
    (live, orphans) = re.search(r"# (\d+) live memories, (\d+) orphans", README).groups()
    run = subprocess.run(["meshlab", "--store", "data/samples/store", "replay", "ada"], cwd=clone, capture_output=True)
    assert f"{live} memories live".encode() in run.stderr
    assert f"{orphans} orphans".encode() in run.stderr


def test_the_commands_run_and_end_with_the_code_they_tell(clone):
    (commands,) = [block for block in blocks("sh") if "meshlab" in block]
    for command in commands.splitlines():
        told = re.search(r"# exit code (\d)$", command)
        run = subprocess.run(["sh", "-c", command], cwd=clone, capture_output=True, text=True)
        assert run.returncode == int(told[1] if told else 0), f"{command}\n{run.stderr}"
        assert "error" not in run.stderr


def test_the_table_of_the_demo_is_what_the_demo_prints(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(demo, "render_notebook", lambda source, folder, **options: Rendered(folder / "page.html", None))
    (shown,) = blocks("text")
    assert CliRunner().invoke(main, ["demo"], catch_exceptions=False).stdout.strip() == shown.strip()


def test_every_command_is_in_the_table_and_no_other():
    listed = re.findall(r"^\| `(\w+)[^`]*` \|", README.split("| command | what it does |")[1], re.MULTILINE)
    assert sorted(listed) == sorted(main.commands)


def test_every_target_named_is_in_the_makefile():
    targets = set(re.findall(r"^(\w+):", (REPOSITORY / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    assert set(re.findall(r"(?:`|^)make (\w+)", README, re.MULTILINE)) <= targets


def test_the_benchmarks_have_their_place():
    assert README.count("<!-- benchmarks: start -->") == README.count("<!-- benchmarks: end -->") == 1
