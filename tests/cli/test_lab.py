"""``lab`` copies the notebooks to a folder of the user's and starts JupyterLab there, on this machine only."""

import os
import shutil
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]


@pytest.fixture
def started(monkeypatch, tmp_path):
    """What was started instead of JupyterLab."""
    calls = []
    monkeypatch.setattr(os, "execv", lambda program, arguments: calls.append(arguments))
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.delenv("MESH_STORE", raising=False)
    monkeypatch.chdir(tmp_path)
    return calls


def test_it_listens_on_the_loopback_and_opens_the_tour_in_the_folder(meshlab, started):
    assert meshlab("lab", "--no-browser").exit_code == 0
    ((python, _, module, *options),) = started
    assert (python, module) == (sys.executable, "jupyterlab")
    assert {"--ip=127.0.0.1", "--no-browser", "--notebook-dir=meshlab-lab"} <= set(options)
    (url,) = [option.split("=")[1] for option in options if "default_url" in option]
    assert (Path("meshlab-lab") / url.removeprefix("/lab/tree/")).is_file()


def test_root_must_say_so_and_options_behind_go_to_lab(meshlab, started, monkeypatch):
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    refused = meshlab("lab", "mine")
    assert refused.exit_code == 1
    assert "meshlab lab FOLDER -- --allow-root" in refused.stderr
    assert started == []
    assert meshlab("lab", "mine", "--", "--allow-root").exit_code == 0
    assert started[0][-1] == "--allow-root"
    assert "options of Lab stand behind" in meshlab("lab", "--", "--allow-root").stderr


def test_a_link_in_the_folder_is_left_alone(meshlab, started, tmp_path):
    (tmp_path / "mine" / "notebooks").mkdir(parents=True)
    (tmp_path / "mine" / "notebooks" / "01_replay.ipynb").symlink_to(tmp_path / "elsewhere")
    assert meshlab("lab", "mine").exit_code == 0
    assert not (tmp_path / "elsewhere").exists()


def test_notebooks_come_with_all_they_refer_to(meshlab, started, tmp_path):
    meshlab("lab", "mine")
    for part in ("notebooks/01_replay.ipynb", "data/samples/store/ada/wal-20250701.log", "docs/format.md"):
        assert (tmp_path / "mine" / part).read_bytes() == (REPOSITORY / part).read_bytes()
    assert not (tmp_path / "mine" / "notebooks" / "save.py").exists()


def test_an_edited_notebook_stays_and_is_told_of(meshlab, started, tmp_path):
    meshlab("lab", "mine")
    edited, gone = (tmp_path / "mine" / "notebooks" / name for name in ("01_replay.ipynb", "02_time_travel.ipynb"))
    edited.write_text("mine")
    gone.unlink()
    result = meshlab("lab", "mine")
    assert "copied 1 file to mine" in result.stderr
    assert "notebooks/01_replay.ipynb" in result.stderr
    assert "they stay as they are" in result.stderr
    assert edited.read_text() == "mine"
    assert gone.exists()
    assert len(started) == 2


@pytest.mark.parametrize(("answer", "kept"), [("y\n", False), ("n\n", True), ("\n", True)])
def test_whoever_is_asked_decides(started, tmp_path, monkeypatch, answer, kept):
    from meshlab.cli import lab, workbench

    bench = workbench.look(tmp_path / "mine")
    workbench.copy(bench.new, tmp_path / "mine")
    edited = tmp_path / "mine" / "notebooks" / "01_replay.ipynb"
    edited.write_text("mine")
    monkeypatch.setattr(sys, "stdin", Terminal(answer))
    lab._fill(tmp_path / "mine")
    assert (edited.read_text() == "mine") == kept


class Terminal:
    """Somebody at a terminal with an answer."""

    def __init__(self, answer):
        self.answer = answer

    def isatty(self):
        return True

    def readline(self, *_):
        return self.answer


def test_nothing_is_copied_twice(meshlab, started):
    meshlab("lab", "mine")
    assert "copied" not in meshlab("lab", "mine").stderr


def test_notebooks_see_the_store_that_was_named(meshlab, started, monkeypatch, tmp_path):
    monkeypatch.setenv("MESH_STORE", "elsewhere")
    meshlab("--store", "mine", "lab")
    assert os.environ["MESH_STORE"] == str(tmp_path / "mine")


def test_a_file_in_place_of_the_folder_is_an_error(meshlab, started, tmp_path):
    (tmp_path / "taken").write_text("")
    result = meshlab("lab", "taken")
    assert result.exit_code == 1
    assert "taken is no directory" in result.stderr
    assert started == []


def test_without_the_repository_there_is_nothing_to_copy(meshlab, started, tmp_path, monkeypatch):
    package = shutil.copytree(REPOSITORY / "meshlab" / "cli", tmp_path / "site" / "meshlab" / "cli")
    monkeypatch.setattr("meshlab.__file__", str(package.parent / "__init__.py"))
    result = meshlab("lab")
    assert result.exit_code == 1
    assert "clone of the repository" in result.stderr
