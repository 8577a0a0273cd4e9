"""Plans and rehearsals for people: the verdict first, everything escaped, nothing loaded from elsewhere."""

import re
from html.parser import HTMLParser
from pathlib import Path

import msgspec
import pytest

from meshlab.migrate.audit import RehearsedUser
from meshlab.migrate.comparison import Finding
from meshlab.migrate.plan import Input, Measured, Plan, PlannedUser
from meshlab.migrate.rehearsal import Rehearsal
from meshlab.migrate.report import (
    plan_page,
    plan_rows,
    plan_summary,
    rehearsal_page,
    rehearsal_rows,
    rehearsal_summary,
)
from meshlab.migrate.sources.source import Problem

EVIL = "<script>alert('x')</script>&\"<b>"


def planned(uid, notes=()):
    return PlannedUser(
        uid=uid,
        kind="map",
        base="/old",
        inputs=[Input(f"/old/{EVIL}", 1_234_567, "ab" * 32)],
        operations=["copy it", EVIL],
        records=12_345,
        state_hash="cd" * 16,
        bytes_to_write=2_000_000,
        seconds=90.0,
        notes=list(notes),
    )


def plan(count=2, **fields):
    made = Plan(
        created_at="2025-07-01T00:00:00Z",
        tool="meshlab",
        source=f"/old/{EVIL}",
        store="/store",
        users=[planned(f"user{at}", [EVIL] if at == 0 else []) for at in range(count)],
        left=[Problem("/old/x", EVIL)],
        measured=[Measured(kind="map", what=EVIL, records=5, bytes_read=10, bytes_written=5, seconds=0.5)],
        notes=[EVIL],
    )
    return msgspec.structs.replace(made, **fields).sealed()


def rehearsal(count=2, findings=2):
    return Rehearsal(
        plan_id="ef" * 32,
        created_at="2025-07-01T00:00:00Z",
        tool="meshlab",
        machine={"system": EVIL},
        users=[RehearsedUser(uid=f"user{at}", records=5, lost=at) for at in range(count)],
        findings=[Finding("user1", "changed", EVIL, "content", EVIL, EVIL) for _ in range(findings)],
        counts={"changed": 5_000},
        verdict=f"FAILED: {EVIL}",
    )


class Page(HTMLParser):
    """Reads a page strictly: every element that is opened is closed, in order."""

    VOID = ("meta", "br")

    def __init__(self, text):
        super().__init__()
        self.open, self.seen, self.text = [], [], ""
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        assert not {"src", "href", "onclick"} & {name for name, _ in attrs}
        self.seen.append(tag)
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data


SHOWN = [
    plan_page(plan()),
    plan_page(plan(problems=[Problem(EVIL, EVIL, EVIL)])),
    plan_summary(plan(problems=[Problem(EVIL, EVIL, EVIL)])),
    rehearsal_page(rehearsal()),
    rehearsal_summary(rehearsal()),
]


@pytest.mark.parametrize("text", SHOWN, ids=range(len(SHOWN)))
def test_everything_is_escaped_and_nothing_comes_from_elsewhere(text):
    page = Page(text)
    assert not {"script", "b>", "link", "img", "iframe"} & set(page.seen)
    assert "alert('x')" in page.text, "it is shown as text"
    assert "<script" not in text
    assert not re.search(r"https?://|@import|url\(", text)


@pytest.mark.parametrize("text", [SHOWN[0], SHOWN[3]])
def test_a_page_is_whole_and_fit_for_print(text):
    assert text.startswith("<!doctype html>")
    assert text.rstrip().endswith("</html>")
    for words in ("@media print", "overflow-wrap: anywhere", "charset='utf-8'"):
        assert words in text


@pytest.mark.parametrize("char", ["\x1b", "\u202e", "\x7f", "\u2066"])
def test_no_character_that_steers_a_screen_stands_raw(char):
    evil = Problem(char, char, char)
    marked = rehearsal(findings=0)
    finding = Finding("user1", "changed", char, "content", char, char)
    marked = msgspec.structs.replace(marked, findings=[finding], verdict=char)
    made = plan(problems=[evil], left=[evil], notes=[char], users=[planned("ann", [char])], source=char)
    for text in (plan_page(made), plan_summary(made), rehearsal_page(marked), rehearsal_summary(marked)):
        assert char not in text
        assert char.encode("unicode_escape").decode() in text


def test_numbers_keep_their_units_and_stand_below_their_names():
    text = plan_page(plan())
    assert "1.2&nbsp;MB" in text
    assert "<th class='number'>records</th>" in text
    assert "<th>state hash</th>" in text
    assert "<div class='scroll'><table" in text, "a wide table scrolls in its own box"


def test_the_verdict_stands_on_top():
    for text, words in (
        (SHOWN[0], "ready to be rehearsed: 2 users"),
        (SHOWN[1], "NOT ready, 1 problem"),
        (SHOWN[3], "FAILED"),
    ):
        assert text.index(words) < text.index("<table")
    assert "class='verdict bad'" in SHOWN[1]
    assert "class='verdict good'" in SHOWN[0]


def test_a_plan_page_has_every_user_file_and_number():
    text = plan_page(plan(30))
    for words in ("user29", "ab" * 32, "cd" * 16, "1,234,567", "12,345", "copy it", "/store"):
        assert words in text


def test_a_notebook_is_shown_little_however_much_there_is():
    many = plan(5_000, problems=[Problem("x" * 10_000, "y" * 10_000)] * 500)
    for text in (plan_summary(many), rehearsal_summary(rehearsal(5_000, 1_000))):
        assert len(text.encode()) < 20_000
        assert "--jp-" in text
        assert "more" in text
    assert many._repr_html_() == plan_summary(many)


def test_rows_are_plain_numbers():
    assert plan_rows(plan())[0] == {
        "uid": "user0",
        "kind": "map",
        "files": 1,
        "bytes": 1_234_567,
        "records": 12_345,
        "to_write": 2_000_000,
        "time": 90.0,
        "state_hash": "cd" * 16,
        "notes": EVIL,
    }
    assert rehearsal_rows(rehearsal())[1]["lost"] == 1


def test_empty_plans_show_themselves_too():
    empty = plan(0, left=[], notes=[], measured=[])
    assert empty.verdict == "NOT ready: no users"
    Page(plan_page(empty))
    Page(plan_summary(empty))


def test_pages_are_written_as_they_are(tmp_path):
    path = Path(tmp_path / "plan.html")
    path.write_text(plan_page(plan(users=[planned("é" * 3)])), encoding="utf-8")
    assert "ééé" in path.read_text(encoding="utf-8")
