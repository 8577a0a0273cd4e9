"""``lab`` starts JupyterLab on this machine only."""

import os
import sys

import pytest


@pytest.fixture
def started(monkeypatch):
    """What was started instead of JupyterLab."""
    calls = []
    monkeypatch.setattr(os, "execv", lambda program, arguments: calls.append(arguments))
    monkeypatch.delenv("MESH_STORE", raising=False)
    return calls


def test_it_listens_on_the_loopback_and_opens_the_notebooks(meshlab, started):
    assert meshlab("lab", "--no-browser").exit_code == 0
    ((python, _, module, *options),) = started
    assert (python, module) == (sys.executable, "jupyterlab")
    assert "--ip=127.0.0.1" in options
    assert "--no-browser" in options
    assert any(option.startswith("--notebook-dir=") and option.endswith("notebooks") for option in options)


def test_notebooks_see_the_store_that_was_named(meshlab, started, monkeypatch, tmp_path):
    monkeypatch.setenv("MESH_STORE", "elsewhere")
    meshlab("--store", "mine", "lab", tmp_path)
    assert os.environ["MESH_STORE"] == str(tmp_path / "mine")


def test_a_folder_that_is_not_there_is_an_error(meshlab, started):
    result = meshlab("lab", "nowhere")
    assert result.exit_code == 1
    assert "nowhere is no directory" in result.stderr
    assert started == []
