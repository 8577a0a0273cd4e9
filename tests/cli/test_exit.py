"""Every run ends with one of the exit codes; a user's mistake is a line and a hint, never a traceback."""

import os
import signal
import subprocess
import sys

import pytest

from meshlab.cli import Commands
from meshlab.errors import DamageFound

HOSTILE = [
    "",
    ".",
    "..",
    "../ann",
    "ann/../../etc",
    "/etc/passwd",
    "a/b",
    "ann\n",
    "-rf",
    ".meshlab",
    "x" * 300,
    "аnn",
    "ann\u202e",
    "\x1b[31mann",
    "ａｎｎ",
    "ann ",
    "CON:",
]
PER_USER = [
    ("append",),
    ("dump",),
    ("verify",),
    ("replay",),
    ("seal",),
    ("stats",),
    ("repair",),
    ("load", "-o", "x.csv"),
    ("checkpoint",),
    ("vacuum",),
    ("windows",),
    ("diff",),
]
BEHIND = {"repair": ["copy"], "diff": ["2025-07-07T00:00:00Z"]}
"""What some commands want behind the user."""
READ_THE_LOG = [c for c in PER_USER if c[0] not in ("append", "vacuum", "windows")]
"""These two go by names, sizes and manifests."""


def one_error(result, code=1):
    """The message of a run that failed as it should."""
    stderr = result.stderr if isinstance(result.stderr, str) else result.stderr.decode()
    first, *rest = stderr.splitlines()
    assert getattr(result, "exit_code", getattr(result, "returncode", None)) == code
    assert first.startswith("meshlab: error: ")
    assert len(rest) == 1
    assert rest[0].startswith("hint: ")
    assert "Traceback" not in stderr
    return first


def arguments_for(command, uid):
    return [*command, "--", uid, *BEHIND.get(command[0], [])]


@pytest.mark.parametrize("uid", HOSTILE, ids=ascii)
@pytest.mark.parametrize("command", PER_USER, ids=lambda command: command[0])
def test_a_hostile_uid_is_refused_and_touches_nothing(command, uid, meshlab, store, tmp_path):
    before = sorted(tmp_path.rglob("*"))
    result = meshlab("--store", store, *arguments_for(command, uid), stdin='{"Delete":"m1"}\n')
    message = one_error(result)
    assert "is not allowed" in message
    assert message.isprintable()
    assert sorted(tmp_path.rglob("*")) == before


def test_a_symbolic_link_is_no_user(meshlab, store, tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (store / "eve").symlink_to(tmp_path / "elsewhere")
    assert "symbolic link" in one_error(meshlab("--store", store, "append", "eve", stdin='{"Delete":"m1"}\n'))
    assert list((tmp_path / "elsewhere").iterdir()) == []


def test_a_uid_that_differs_by_case_alone_is_refused(meshlab, store):
    assert "only by case" in one_error(meshlab("--store", store, "append", "Ann", stdin='{"Delete":"m1"}\n'))


@pytest.mark.parametrize("command", [c for c in PER_USER if c[0] != "append"], ids=lambda command: command[0])
def test_a_store_that_is_not_there_is_an_error_for_readers(command, meshlab, tmp_path):
    message = one_error(meshlab("--store", "nowhere", *arguments_for(command, "ann")))
    assert "nowhere does not exist" in message
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "command", [("verify",), ("dump",), ("stats",), ("seal",), ("sql", "select 1"), ("load", "-o", "x.csv")]
)
def test_all_users_of_a_store_that_is_not_there_is_an_error(command, meshlab):
    assert "does not exist" in one_error(meshlab("--store", "nowhere", *command))


@pytest.mark.parametrize("command", [c for c in PER_USER if c[0] != "append"], ids=lambda command: command[0])
def test_a_user_that_is_not_there_is_an_error_for_readers(command, meshlab, store):
    assert "'bob' is not in" in one_error(meshlab("--store", store, *arguments_for(command, "bob")))
    assert not (store / "bob").exists()


@pytest.mark.parametrize("command", PER_USER, ids=lambda command: command[0])
def test_a_file_in_place_of_the_store_is_named(command, meshlab, tmp_path):
    (tmp_path / "store").write_text("not a store")
    message = one_error(meshlab("--store", "store", *arguments_for(command, "ann"), stdin='{"Delete":"m1"}\n'))
    assert "store" in message
    assert (tmp_path / "store").read_text() == "not a store"


@pytest.mark.parametrize("command", PER_USER, ids=lambda command: command[0])
def test_a_file_in_place_of_a_user_is_named(command, meshlab, store):
    (store / "bob").write_text("not a user")
    message = one_error(meshlab("--store", store, *arguments_for(command, "bob"), stdin='{"Delete":"m1"}\n'))
    assert "bob is not a directory" in message


@pytest.mark.parametrize("command", READ_THE_LOG, ids=lambda command: command[0])
def test_a_directory_in_place_of_a_segment_is_named(command, meshlab, store):
    (store / "ann" / "wal-20250101.log").mkdir()
    message = one_error(meshlab("--store", store, *arguments_for(command, "ann")))
    assert "wal-20250101" in message


def test_a_store_path_with_nul_is_refused(meshlab):
    assert "NUL" in one_error(meshlab("--store", "a\0b", "stats"))


@pytest.mark.parametrize("arguments", [["nonsense"], ["replay"], ["stats", "--format", "xml"], ["--colour"]])
def test_wrong_usage_is_exit_code_1(arguments, meshlab):
    assert "--help" in meshlab(*arguments).stderr
    one_error(meshlab(*arguments))


def test_no_command_shows_the_help(meshlab):
    result = meshlab()
    assert result.exit_code == 1
    assert "verify" in result.stderr


@pytest.fixture
def failing():
    """Run a command that raises."""
    from click.testing import CliRunner

    def run(error):
        group = Commands("meshlab")

        @group.command()
        def act():
            raise error

        return CliRunner().invoke(group, ["act"])

    return run


def test_library_errors_show_message_and_hint_without_control_characters(failing):
    result = failing(DamageFound("line \x1b[2J is torn", hint="repair \x07"))
    assert one_error(result) == r"meshlab: error: line \x1b[2J is torn"
    assert result.stderr.splitlines()[1] == r"hint: repair \x07"


def test_errors_of_the_operating_system_name_the_file(failing):
    message = one_error(failing(PermissionError(13, "Permission denied", "/data/wal")))
    assert message == "meshlab: error: Permission denied: /data/wal"


def test_an_error_nobody_foresaw_is_one_line_that_asks_for_a_report(failing, monkeypatch):
    monkeypatch.delenv("MESHLAB_DEBUG", raising=False)
    result = failing(KeyError("a\nb \x1b[2J"))
    assert one_error(result) == r"meshlab: error: unexpected KeyError: 'a\nb \x1b[2J'"
    assert result.stderr.splitlines()[1] == "hint: please report this; MESHLAB_DEBUG=1 shows the traceback"
    assert one_error(failing(ValueError("two\nlines"))) == "meshlab: error: unexpected ValueError: two lines"


def test_debugging_shows_the_traceback_of_an_error_nobody_foresaw(failing, monkeypatch):
    monkeypatch.setenv("MESHLAB_DEBUG", "1")
    assert isinstance(failing(KeyError("x")).exception, KeyError)


def test_an_interrupt_is_quiet(failing):
    result = failing(KeyboardInterrupt())
    assert (result.exit_code, result.stderr) == (130, "")


def test_a_closed_pipe_is_quiet(store, tmp_path):
    command = [sys.executable, "-m", "meshlab", "--store", str(store), "dump"]
    read, write = os.pipe()
    os.close(read)
    with os.fdopen(write, "wb") as stdout:
        result = subprocess.run(command, stdout=stdout, stderr=subprocess.PIPE, timeout=60, check=False)
    assert (result.returncode, result.stderr) == (141, b"")


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full, a device of Linux")
def test_a_full_disk_under_stdout_is_one_error(store):
    command = [sys.executable, "-m", "meshlab", "--store", str(store), "stats"]
    with open("/dev/full", "wb") as stdout:
        result = subprocess.run(command, stdout=stdout, stderr=subprocess.PIPE, timeout=60, check=False)
    assert "No space left" in one_error(result)


def test_following_ends_with_the_interrupt_and_without_a_traceback(store):
    command = [sys.executable, "-m", "meshlab", "--store", str(store), "dump", "--follow"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert b'"m1"' in process.stdout.readline()
        process.send_signal(signal.SIGINT)
        _, stderr = process.communicate(timeout=60)
    assert (process.returncode, stderr) == (130, b"")
