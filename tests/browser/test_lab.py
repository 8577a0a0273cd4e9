"""The notebooks and widgets in a real JupyterLab, used with mouse and keys, and looked at."""

from __future__ import annotations

import re
from pathlib import Path

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_notebook

import meshlab

from .notebook import Notebook

REPOSITORY = Path(__file__).resolve().parents[2]
SCREENSHOTS = REPOSITORY / "build" / "screenshots"

EVIL = "<script>window.owned=1</script><img src=x onerror=window.owned=1>$x^2$"
SCRATCH = [
    f"import meshlab\nevil = {EVIL!r}\nlater = False",
    """
%load_ext meshlab
store = meshlab.open("evil")
user = store["eve"]
user.append({"Insert": {"id": evil, "content": evil, evil: evil, "amplitude": 0.5}})
user.append({"Update": {"id": evil, "content": evil * 2, "amplitude": 1.0}})
lsn = user.events(progress=False).to_pylist()[0]
""",
    "user.state(progress=False)",
    "user.diff(f\"{lsn['segment']}:{lsn['offset']}\", progress=False)",
    "user.history(evil, progress=False)",
    "%%wal_sql asked\nselect id, content from events",
    "from meshlab.widgets import MigrationRehearsal, ReplayExplorer, WalTail\nReplayExplorer(user)",
    'tail = WalTail(user)\nuser.append({"Insert": {"id": evil, evil: evil}})\ntail.look()\ntail',
    'panel = MigrationRehearsal("../data/samples/scoped", store="new")\npanel',
    "from IPython.display import HTML, display\ndisplay(HTML(evil)) if later else None\nlater = True",
]


@pytest.fixture
def opened(page):
    """Opens notebooks, and closes them when the test is over."""
    notebooks = []

    def open_one(name):
        notebooks.append(Notebook(page, name))
        return notebooks[-1]

    yield open_one
    for notebook in notebooks:
        notebook.close()


def test_the_first_notebook_runs_from_top_to_bottom(opened):
    notebook = opened("01_replay.ipynb")
    notebook.run_all()
    assert notebook.errors() == []
    assert [width > 600 for width in notebook.widths()] == [True] * 3
    notebook.screenshot(SCREENSHOTS / "01_replay.png", notebook.find(".jp-OutputArea-output img").first)


def where(text):
    """The event number and the place a line about a stop tells."""
    found = re.search(r"behind event ([\d,]+) of .* at (\d{8}:\d+)", text)
    return int(found[1].replace(",", "")), found[2]


def test_the_explorer_follows_mouse_and_keys_and_shows_the_state_of_a_replay(opened):
    notebook = opened("02_time_travel.ipynb")
    notebook.run_all()
    assert notebook.errors() == []
    handle, figure = notebook.find(".noUi-handle"), notebook.part("life")
    handle.scroll_into_view_if_needed()
    first, _ = where(notebook.wait_until_settled())
    before = figure.get_attribute("src")
    drag(notebook, handle, -200)
    dragged, _ = where(notebook.wait_until_settled())
    assert dragged < first - 50
    handle.focus()
    for _ in range(2):
        notebook.page.keyboard.press("ArrowRight")
    number, lsn = where(notebook.wait_until_settled())
    assert number == dragged + 2
    check_table(notebook, lsn)
    assert "since the last stop" in notebook.part("changes").inner_text()
    assert figure.get_attribute("src") != before
    assert figure.evaluate("one => one.naturalWidth") > 600
    notebook.screenshot(SCREENSHOTS / "02_explorer.png", notebook.find(".widget-play"))


def drag(notebook, handle, by):
    """Take a handle with the mouse, move it by so many pixels, and let go."""
    box = handle.bounding_box()
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    notebook.page.mouse.move(x, y)
    notebook.page.mouse.down()
    for part in range(1, 6):
        notebook.page.mouse.move(x + by * part / 5, y)
    notebook.page.mouse.up()


def check_table(notebook, lsn):
    """The table holds memories as a replay up to the place has them, and tells how many there are."""
    state = meshlab.open(REPOSITORY / "data" / "samples" / "store")["ada"].state(lsn, progress=False)
    assert f"{len(state):,} memories live" in notebook.part("state").inner_text()
    rows = notebook.part("state").locator("tbody tr").all()
    assert len(rows) == 8
    for row in rows[:3]:
        id, amplitude, *_ = row.locator("td").all_inner_texts()
        (record,) = [one for one in state.to_pylist() if one["id"].startswith(id.removesuffix("…"))]
        assert amplitude == f"{record['amplitude']:.6g}"


def test_nothing_in_a_log_is_executed_and_a_migration_is_led_by_its_buttons(lab, opened):
    cells = [new_code_cell(source.strip()) for source in SCRATCH]
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3 (ipykernel)", "language": "python"}}
    nbformat.write(new_notebook(cells=cells, metadata=kernel), lab.root / "notebooks" / "scratch.ipynb")
    notebook = opened("scratch.ipynb")
    notebook.run_all()
    assert notebook.errors() == []
    notebook.find(".noUi-handle").focus()
    notebook.page.keyboard.press("ArrowLeft")
    notebook.wait_for("place", "behind event 1 of 2")
    check_that_markup_is_text(notebook)
    lead_the_migration(lab, notebook)
    check_that_the_check_would_see_it(notebook)


def check_that_markup_is_text(notebook):
    outputs = notebook.find(".jp-OutputArea-output")
    told = [text for text in outputs.all_inner_texts() if "<script>window.owned" in text]
    assert len(told) == 6  # a state, a diff, a history, a query, the explorer, the tail
    assert notebook.find(".jp-OutputArea-output img[src='x']").count() == 0
    assert notebook.find(".jp-OutputArea-output mjx-container").count() == 0
    assert notebook.page.evaluate("() => window.owned === undefined")
    assert notebook.page.dialogs == []
    notebook.screenshot(SCREENSHOTS / "markup_is_text.png", notebook.find(".widget-play"))


def lead_the_migration(lab, notebook):
    new = lab.root / "notebooks" / "new"
    rehearse, apply, back = (notebook.find(f"button:has-text('{text}')") for text in ("Rehearse", "Apply", "Roll back"))
    rehearse.scroll_into_view_if_needed()
    assert (apply.is_disabled(), back.is_disabled()) == (True, True)
    rehearse.click()
    notebook.wait_for("verdict", "passed")
    assert apply.is_disabled()
    notebook.find("input[placeholder^='type new']").fill("new")
    notebook.find("button:has-text('Apply'):not([disabled])").click()
    notebook.wait_for("outcome", "2 users, 0 failed")
    assert meshlab.open(new).users() == ["ada", "bela"]
    notebook.screenshot(SCREENSHOTS / "03_migration.png", notebook.part("plan"))
    notebook.find("button:has-text('Roll back'):not([disabled])").click()
    notebook.wait_for("outcome", "rolled-back")
    assert meshlab.open(new).users() == []


def check_that_the_check_would_see_it(notebook):
    """The same text shown as HTML is executed: what was looked for above can be found."""
    notebook.find(".jp-CodeCell").last.locator(".cm-content").click()
    notebook.page.keyboard.press("Control+Enter")
    notebook.page.wait_for_function("() => window.owned === 1")
