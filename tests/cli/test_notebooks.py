"""``notebooks run`` makes a page of a notebook, with the parameters it was given."""

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_notebook

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
    ],
)
def test_a_mistake_is_told_before_anything_runs(meshlab, probe, arguments, told):
    result = meshlab("notebooks", "run", *arguments)
    assert result.exit_code == 1
    assert told in result.stderr
    assert not probe.with_suffix(".html").exists()


def test_those_of_the_course_are_named_when_one_is_not_found(meshlab, probe):
    result = meshlab("notebooks", "run", "7_none")
    assert "00_tour, 01_replay, 02_time_travel" in result.stderr
