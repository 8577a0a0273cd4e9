"""The page on the object store does not drift: its commands run, its tables are those of the code."""

import re
import shlex
from pathlib import Path

import pytest
from click.testing import CliRunner

from meshlab.cli import main
from meshlab.cli.sync.push import command as push
from meshlab.remote.blocks import FAN
from meshlab.remote.image import BLOCK, DATA, IMAGES, MARKS
from meshlab.remote.notes import TRUSTED_SECONDS
from meshlab.remote.patience import PATIENT
from meshlab.remote.transfer import CONNECTIONS, SLOTS
from meshlab.service.syncd import Metrics
from meshlab.testing.log import build_log

pytestmark = pytest.mark.usefixtures("keeps_priority")

REPOSITORY = Path(__file__).resolve().parents[1]
PAGE = (REPOSITORY / "docs" / "remote.md").read_text(encoding="utf-8")


def rows(head):
    """The names in the first column of a table."""
    table = PAGE.split(f"| {head} |")[1].split("\n\n")[0]
    return {name for row in re.findall(r"^\| (`.*?) \|", table, re.MULTILINE) for name in re.findall(r"`([^`]+)`", row)}


def test_the_commands_run_in_their_order_and_end_with_the_codes_they_tell(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    build_log([[{"Insert": {"id": f"m{at}"}}] for at in range(4)], day="20250707").write(
        tmp_path / "mesh_store" / "ann"
    )
    (tmp_path / "bucket").mkdir()
    monkeypatch.setenv("MESH_STORE", str(tmp_path / "mesh_store"))
    monkeypatch.setenv("MESH_REMOTE", str(tmp_path / "bucket"))
    (block,) = re.findall(r"^```sh\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
    lines = re.findall(r"^meshlab (.*)$", block, re.MULTILINE)
    assert len(lines) >= 8
    for line in lines:
        moment = line.replace("12:00:01Z", "00:00:03Z")
        result = CliRunner().invoke(main, shlex.split(moment, comments=True), catch_exceptions=False)
        assert result.exit_code == (2 if "--dry-run" in line else 0), (line, result.stderr)
    assert (tmp_path / "restored" / "ann").is_dir()


WORDS = {5: "five", 8: "eight", 12: "twelve"}


def test_the_numbers_are_those_of_the_code():
    assert f"or {BLOCK >> 20} MiB" in PAGE
    assert f"When {WORDS[FAN]} blocks" in PAGE
    assert f"up to {WORDS[CONNECTIONS]} at a time" in PAGE
    assert f"bounded by {WORDS[SLOTS]} blocks" in PAGE
    assert f"within {TRUSTED_SECONDS / 3600:.0f} hours" in PAGE
    assert f"up to {WORDS[PATIENT.attempts - 1]} times" in PAGE
    assert f"to {PATIENT.longest:.0f} seconds" in PAGE
    assert {key.split("/")[0] for key in rows("key below the prefix | what it is")} == {MARKS, DATA, IMAGES}


@pytest.mark.parametrize("name", ["interval", "prove-every", "prove"])
def test_the_defaults_of_the_daemon_are_those_of_its_options(name):
    (default,) = [option.default for option in push.params if f"--{name}" in option.opts]
    assert f"`--{name}` ({default})" in PAGE


def test_every_event_of_the_log_is_in_the_table_and_no_other():
    source = (REPOSITORY / "meshlab" / "service" / "syncd.py").read_text(encoding="utf-8")
    said = set(re.findall(r'_log\(\s*"([^"]+)"', source)) | set(
        re.findall(r'what = "(\w+)" if .* else "(\w+)"', source)[0]
    )
    assert rows("event | when") == said


def test_every_number_of_the_daemon_is_in_the_table_and_no_other():
    assert rows("number | what it is") == set(Metrics._fields)
