"""Saved notebooks show what a run gives; nbval compares it, but passes over a cell that was never run."""

import json
import re
from pathlib import Path

import pytest

NOTEBOOKS = sorted((Path(__file__).resolve().parents[1] / "notebooks").glob("*.ipynb"))


def test_there_are_notebooks():
    assert NOTEBOOKS


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.name)
def test_every_code_cell_was_run_in_order_from_a_fresh_start(path):
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    counts = [cell["execution_count"] for cell in cells if cell["cell_type"] == "code"]
    assert counts == list(range(1, len(counts) + 1))


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.name)
def test_cells_are_short_and_outputs_name_no_machine(path):
    notebook = json.loads(path.read_text(encoding="utf-8"))
    for cell in notebook["cells"]:
        assert cell["cell_type"] != "code" or len(cell["source"]) <= 15
        assert "execution" not in cell["metadata"]
        shown = [text for output in cell.get("outputs", []) for text in _texts(output)]
        assert not [text for text in shown if "/home/" in text or "/tmp/" in text or str(path.parents[1]) in text]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.name)
def test_the_first_code_cell_holds_the_parameters(path):
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    first = next(cell for cell in cells if cell["cell_type"] == "code")
    assert first["metadata"]["tags"] == ["parameters"]
    assert "MESH_STORE" in "".join(first["source"])


def _texts(output):
    yield "".join(output.get("text", ""))
    for kind, value in output.get("data", {}).items():
        if kind.startswith("text/"):
            yield "".join(value)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.name)
def test_no_state_of_widgets_is_saved(path):
    notebook = json.loads(path.read_text(encoding="utf-8"))
    assert set(notebook["metadata"]) == {"kernelspec", "language_info"}


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.name)
def test_every_figure_is_followed_by_its_caption_and_numbered(path):
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    captions = []
    for cell, after in zip(cells, [*cells[1:], {"source": ""}], strict=True):
        if any("image/png" in output.get("data", {}) for output in cell.get("outputs", [])):
            captions.append("".join(after["source"]))
    assert captions
    for number, caption in enumerate(captions, 1):
        assert caption.startswith(f"*Figure {number}. ")


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.name)
def test_every_link_leads_to_a_file(path):
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    text = "".join(part for cell in cells if cell["cell_type"] == "markdown" for part in cell["source"])
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        assert (path.parent / target).exists(), target
