"""The page on migrations does not drift: its commands run, in the order in which they stand."""

import re
import shlex
import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner

from meshlab.cli import main

pytestmark = pytest.mark.usefixtures("keeps_priority")

REPOSITORY = Path(__file__).resolve().parents[1]
PAGE = (REPOSITORY / "docs" / "migration.md").read_text(encoding="utf-8")


def commands():
    """The command lines of meshlab in the blocks of shell code, with their comments."""
    for block in re.findall(r"^```sh\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL):
        yield from re.findall(r"^meshlab (.*)$", block, re.MULTILINE)


def test_the_commands_run_one_after_the_other(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MESH_STORE", str(tmp_path / "new"))
    shutil.copytree(REPOSITORY / "data" / "samples" / "phase1", tmp_path / "mesh_store")
    lines = list(commands())
    assert len(lines) >= 8
    for line in lines:
        arguments = shlex.split(line.replace("/mesh_store", str(tmp_path / "mesh_store")), comments=True)
        result = CliRunner().invoke(main, arguments, catch_exceptions=False)
        assert result.exit_code == 0, f"{line}\n{result.stderr}"


def test_every_command_of_a_migration_is_told_of():
    assert not [name for name in main.commands["migrate"].commands if f"migrate {name}" not in PAGE]
