"""A notebook becomes a page and a picture; its own file stays as it was."""

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_notebook

from meshlab.cli.notebook import render_notebook
from meshlab.errors import MeshlabError, StorageError

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


def test_the_page_has_a_title_and_loads_nothing_from_elsewhere(tmp_path):
    html, figure = render_notebook(notebook_at(tmp_path / "probe.ipynb", "1 + 1"), tmp_path / "out")
    page = html.read_text(encoding="utf-8")
    assert "<title>probe</title>" in page
    assert "cdnjs" not in page
    assert figure is None


def test_a_failing_cell_is_one_error_and_the_page_shows_how_far_it_went(tmp_path):
    source = notebook_at(tmp_path / "probe.ipynb", "print('so far')\nraise ValueError('no\\nhint: more')")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "probe.png").write_bytes(b"of an earlier run")
    with pytest.raises(MeshlabError, match=r"ValueError: no \(") as caught:
        render_notebook(source, tmp_path / "out", store=tmp_path)
    assert "probe.html shows how far it went" in caught.value.hint
    page = (tmp_path / "out" / "probe.html").read_text(encoding="utf-8")
    assert "so far" in page
    assert "ValueError" in page
    assert not (tmp_path / "out" / "probe.png").exists()


@pytest.mark.parametrize("text", ["", "no notebook", "[1]", '{"nbformat": 9, "nbformat_minor": 0}', "\xff"])
def test_what_is_no_notebook_is_one_error(tmp_path, text):
    (tmp_path / "probe.ipynb").write_bytes(text.encode("latin-1"))
    with pytest.raises(MeshlabError, match=r"probe\.ipynb is no notebook"):
        render_notebook(tmp_path / "probe.ipynb", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_kernel_that_is_not_here_is_named(tmp_path):
    notebook = new_notebook(cells=[new_code_cell("1")])
    notebook.metadata["kernelspec"] = {"name": "fortran", "display_name": "Fortran"}
    nbformat.write(notebook, tmp_path / "probe.ipynb")
    with pytest.raises(MeshlabError, match="a kernel that is not here: fortran"):
        render_notebook(tmp_path / "probe.ipynb", tmp_path / "out")


def test_a_file_where_the_folder_should_be_is_told_before_anything_runs(tmp_path):
    (tmp_path / "out").write_text("mine")
    source = notebook_at(tmp_path / "probe.ipynb", f"open({str(tmp_path / 'ran')!r}, 'w')")
    with pytest.raises(StorageError, match="out is no directory"):
        render_notebook(source, tmp_path / "out")
    assert not (tmp_path / "ran").exists()
