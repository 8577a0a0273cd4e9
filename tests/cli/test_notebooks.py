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


def test_the_store_of_the_command_line_is_seen_too(meshlab, probe, tmp_path):
    assert meshlab("--store", "mine", "notebooks", "run", "probe.ipynb").exit_code == 0
    assert "store mine, uid None, days 4" in (tmp_path / "probe.html").read_text(encoding="utf-8")


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


def test_of_a_widget_the_page_has_the_picture(meshlab, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    source = (
        "import base64\n"
        "from IPython.display import display\n"
        "png = base64.b64encode(b'\\x89PNG').decode()\n"
        "view = {'version_major': 2, 'version_minor': 0, 'model_id': 'a-' + 'model'}\n"
        "display({'application/vnd.jupyter.widget-view+json': view, 'image/png': png}, raw=True)"
    )
    nbformat.write(new_notebook(cells=[new_code_cell(source)]), "widget.ipynb")
    assert meshlab("notebooks", "run", "widget.ipynb").stdout.splitlines() == ["widget.html", "widget.png"]
    page = (tmp_path / "widget.html").read_text(encoding="utf-8")
    assert "a-model" not in page
    assert 'src="data:image/png;base64,' in page
