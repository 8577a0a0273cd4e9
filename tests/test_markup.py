"""What comes from a log is text in a notebook, and short."""

import re

import pytest

import meshlab
from meshlab.markup import LONGEST_CELL, Wrong, bullets, headline, safe, table
from meshlab.testing import LogBuilder

EVIL = "<script>alert(1)</script><img src=x onerror=alert(1)>'\"&"


def test_markup_and_control_characters_are_text():
    assert "<" not in safe(EVIL)
    assert safe("\x1b[31m\u202e") == r"\x1b[31m\u202e"


@pytest.mark.parametrize("text", ["$x^2$ and $y$", r"\(x\) and \[y\]", r"\begin{matrix}"])
def test_a_formula_begins_in_an_element_of_its_own(text):
    assert "<span>" in safe(text)
    assert re.sub("</?span>", "", safe(text)) == text


def test_tables_are_cut_and_say_how_much_more_there_is():
    page = table(["id"], [["x" * 1000], [None], [Wrong("torn")]], 10)
    assert f"{'x' * (LONGEST_CELL - 1)}…" in page
    assert "and 7 more" in page
    assert "jp-error-color1" in page
    assert table(["id"], []) == ""


def test_what_is_said_is_cut():
    assert len(headline("State of", "u" * 1000, "t" * 1000)) < 500
    assert len(bullets(["t" * 1000] * 3, 100)) < 1000


def everything(user):
    """One of each object that shows itself, of a user whose log is hostile."""
    store = user.store
    first = user.events(progress=False).to_arrow()["effective_ts"][0].as_py()
    loaded = user.events(progress=False)
    loaded.to_arrow()
    yield from (store, user, user.events(), loaded, user.state(progress=False), user.diff(first, progress=False))
    yield user.history(EVIL, progress=False)
    yield store.sql("select content, id, op from events", progress=False)


def test_whatever_shows_itself_is_small_and_escaped(tmp_path):
    log = LogBuilder()
    log.frame([{"Insert": {"id": EVIL, "content": EVIL * 10_000, EVIL: EVIL}}])
    log.frame([{"Update": {"id": EVIL, "content": EVIL}}] * 30, time=log.frames[0].last_seq + 1_751_400_000_000_000)
    user = meshlab.open(tmp_path)["ann"]
    log.write(user.root)
    for shown in everything(user):
        page = shown._repr_html_()
        assert "<script" not in page
        assert "<img" not in page
        assert len(page.encode()) < 20_000, shown
        assert "\n" not in repr(shown)


def test_showing_a_store_or_a_user_reads_no_log(tmp_path):
    store = meshlab.open(tmp_path)
    assert "not created yet" in meshlab.open(tmp_path / "nowhere")._repr_html_()
    (tmp_path / "ann" / "wal-20250701.log").mkdir(parents=True)  # whoever reads it fails
    assert "1 day" in store._repr_html_()
    assert "20250701" in store["ann"]._repr_html_()
    assert "not created yet" in store["bob"]._repr_html_()
