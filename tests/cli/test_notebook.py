"""A notebook becomes a page and a picture; its own file stays as it was."""

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_notebook

from meshlab.cli.notebook import render_notebook
from meshlab.errors import MeshlabError

FIGURE = """
from base64 import b64decode
from IPython.display import Image, display
display(Image(b64decode("iVBORw0KGgo="), format="png"))
print("six times seven is", 6 * 7)
view = {"version_major": 2, "version_minor": 0, "model_id": "a-" + "model"}
display({"application/vnd.jupyter.widget-view+json": view, "image/png": "iVBORw0KGgo="}, raw=True)
import os; print("the store is", os.path.basename(os.environ["MESH_STORE"]))
"""


def notebook_at(path, source):
    nbformat.write(new_notebook(cells=[new_code_cell(source)]), path)
    return path


def test_the_page_holds_the_outputs_and_the_picture_is_the_first_figure(tmp_path):
    source = notebook_at(tmp_path / "probe.ipynb", FIGURE)
    before = source.read_bytes()
    (tmp_path / "out").mkdir()
    html, figure = render_notebook(source, tmp_path / "out", store=tmp_path / "mine")
    page = html.read_text(encoding="utf-8")
    assert "six times seven is 42" in page
    assert "the store is mine" in page
    assert "a-model" not in page  # of a widget there is the picture: no kernel stands behind a page
    assert page.count('src="data:image/png;base64,') == 2
    assert figure.read_bytes() == b"\x89PNG\r\n\x1a\n"
    assert source.read_bytes() == before


def test_a_failing_cell_is_one_error(tmp_path):
    with pytest.raises(MeshlabError, match="ZeroDivisionError: division by zero"):
        render_notebook(notebook_at(tmp_path / "probe.ipynb", "1 / 0"), tmp_path, store=tmp_path)
