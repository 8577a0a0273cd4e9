"""``notebooks run`` makes a page of a notebook, with the parameters it was given."""

import os
import signal
import subprocess
import sys
import time

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_notebook

from meshlab.cli.notebook import render_notebook
from meshlab.errors import MeshlabError

DEFAULTS = "import os\n\nstore = os.environ.get('MESH_STORE') or 'none'\nuid = None\ndays = 3"
TOLD = "print(f'store {os.path.basename(store)}, uid {uid!r}, days {days + 1}')"


@pytest.fixture
def probe(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    cells = [new_code_cell(DEFAULTS, metadata={"tags": ["parameters"]}), new_code_cell(TOLD)]
    nbformat.write(new_notebook(cells=cells), tmp_path / "probe.ipynb")
    return tmp_path / "probe.ipynb"


def test_parameters_take_the_place_of_the_defaults(meshlab, probe, tmp_path):
    before = probe.read_bytes()
    result = meshlab(
        "notebooks", "run", "probe.ipynb", "-p", "store=mine", "-p", "uid=ann", "-p", "days=7", "--out", "o"
    )
    assert result.exit_code == 0, result.stderr
    page = (tmp_path / "o" / "probe.html").read_text(encoding="utf-8")
    assert "store mine, uid 'ann', days 8" in page
    assert result.stdout.splitlines() == ["o/probe.html"]
    assert probe.read_bytes() == before


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["nowhere"], "there is no notebook 'nowhere'"),
        (["nowhere.ipynb"], "nowhere.ipynb is no file"),
        (["probe.ipynb", "-p", "uuid=ann"], "probe.ipynb has no parameter 'uuid'"),
        (["probe.ipynb", "-p", "uid"], "not of the form NAME=VALUE"),
        (["probe.ipynb", "-p", "store="], "'store=' names no store"),
        (["probe.ipynb", "-p", "days=1e999"], "the value of days is too large for a notebook"),
        (["probe.ipynb", "-p", "days=0x" + 5000 * "f"], "the value of days is too large for a notebook"),
        (["probe.ipynb", "-p", "days=1", "-p", "days=2"], "a parameter is given twice"),
    ],
)
def test_a_mistake_is_told_before_anything_runs(meshlab, probe, arguments, told):
    result = meshlab("notebooks", "run", *arguments)
    assert result.exit_code == 1
    assert told in result.stderr
    assert not probe.with_suffix(".html").exists()


@pytest.mark.parametrize("defaults", ["uid: str = 'x'\ndays = 1", "uid, days = 'x', 1"])
def test_parameters_may_have_types_or_stand_side_by_side(tmp_path, defaults):
    cells = [new_code_cell(defaults, metadata={"tags": ["parameters"]}), new_code_cell("print(uid, days)")]
    nbformat.write(new_notebook(cells=cells), tmp_path / "probe.ipynb")
    html, _ = render_notebook(tmp_path / "probe.ipynb", tmp_path, parameters={"days": 7})
    assert "x 7" in html.read_text(encoding="utf-8")


def test_a_cell_of_parameters_that_is_no_python_is_told(tmp_path):
    cells = [new_code_cell("%load_ext meshlab", metadata={"tags": ["parameters"]})]
    nbformat.write(new_notebook(cells=cells), tmp_path / "probe.ipynb")
    with pytest.raises(MeshlabError, match=r"the parameters of .* cannot be read"):
        render_notebook(tmp_path / "probe.ipynb", tmp_path, parameters={"days": 7})


def test_ctrl_c_ends_a_run_without_a_word_and_its_kernel_too(tmp_path):
    code = "import os, pathlib, time\npathlib.Path('pid').write_text(str(os.getpid()))\ntime.sleep(600)"
    nbformat.write(new_notebook(cells=[new_code_cell(code)]), tmp_path / "slow.ipynb")
    command = [
        sys.executable,
        "-m",
        "meshlab",
        "notebooks",
        "run",
        str(tmp_path / "slow.ipynb"),
        "--out",
        str(tmp_path),
    ]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        wait_until(lambda: (tmp_path / "pid").exists() and (tmp_path / "pid").read_text())
        process.send_signal(signal.SIGINT)
        said = process.stderr.read()
    assert (process.returncode, said) == (130, "running slow.ipynb\n")
    with pytest.raises(ProcessLookupError):
        os.kill(int((tmp_path / "pid").read_text()), 0)


def wait_until(true, seconds=60):
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end
        time.sleep(0.02)


def test_those_of_the_course_are_named_when_one_is_not_found(meshlab, probe):
    result = meshlab("notebooks", "run", "7_none")
    assert "00_tour, 01_replay, 02_time_travel" in result.stderr
