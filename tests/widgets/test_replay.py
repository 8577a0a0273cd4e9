"""The explorer shows what a replay says, moves at once, and takes whatever a log holds."""

from __future__ import annotations

import re
import shutil

import pytest

import meshlab
from meshlab.testing import LogBuilder
from meshlab.widgets.replay import ReplayExplorer

from .conftest import DAYS, EVIL, story


@pytest.fixture
def explorer(user):
    story(user.root)
    return ReplayExplorer(user)


def cells(html):
    return [re.sub("<[^>]*>", "", cell) for cell in re.findall("<td[^>]*>(.*?)</td>", html)]


def marked(html):
    return re.findall("<b style[^>]*>(.*?)</b>", html)


def shown(explorer):
    """Everything the explorer shows as HTML."""
    return "".join(part.value for part in (explorer.message, explorer.place, explorer.state, explorer.changes))


def test_it_begins_behind_the_last_event(explorer):
    assert repr(explorer) == "<ReplayExplorer of ann: behind event 12 of 12, 2 memories live>"
    assert "20250703" in explorer.place.value
    assert cells(explorer.state.value)[::6] == ["m0", "m2"]
    assert explorer.message.value == ""
    assert explorer.memory.value == "m0"


def test_every_stop_of_the_slider_is_the_state_of_a_replay(explorer):
    events = explorer.user.events(progress=False).to_pylist()
    for place in (3, 11, 1, 7):
        explorer.slider.value = place
        event = events[place - 1]
        state = explorer.user.state(f"{event['segment']}:{event['offset']}", progress=False)
        assert sorted(cells(explorer.state.value)[::6]) == [record["id"] for record in state.to_pylist()]


def test_what_changed_since_the_last_stop_stands_out(explorer):
    explorer.slider.value = 9
    explorer.slider.value = 10
    assert "1 changed since the last stop" in explorer.changes.value
    assert cells(explorer.changes.value) == [
        *("m0", "changed", "amplitude", "2.0", "3.0"),
        *("m0", "changed", "access_count", "1", "2"),
    ]
    assert marked(explorer.state.value) == ["3", "2"]
    explorer.slider.value = 0
    assert "2 removed" in explorer.changes.value
    assert "before the first event" in explorer.place.value


def test_the_buttons_step_and_stop_at_the_ends(explorer):
    explorer.forward.click()
    assert explorer.slider.value == 12
    explorer.back.click()
    assert explorer.slider.value == 11
    explorer.slider.value = 0
    explorer.back.click()
    assert explorer.slider.value == 0


def test_a_moment_can_be_asked_for(explorer):
    explorer.go_to("2025-07-02T00:00:03Z")
    assert explorer.slider.value == 7
    assert explorer.slider.value == 7


def test_the_life_follows_the_memory_chosen_and_a_line_the_slider(explorer):
    first = explorer.life.value
    assert first[:4] == b"\x89PNG"
    explorer.slider.value = 4
    second = explorer.life.value
    assert second != first
    explorer.look_at("m1")
    assert explorer.memory.value == "m1"
    assert explorer.life.value != second
    explorer.slider.value = 12
    assert explorer.memory.value == "m1"
    explorer.look_at("nobody knows this one")
    assert explorer.life.value == b""


def test_saved_notebooks_keep_a_picture_and_a_line(explorer):
    bundle = explorer._repr_mimebundle_()
    assert bundle["text/plain"] == repr(explorer)
    assert bundle["image/png"].startswith("iVBOR")
    assert "application/vnd.jupyter.widget-view+json" in bundle


def test_contents_and_ids_that_are_markup_or_formulas_are_text(user):
    log = LogBuilder()
    log.frame([{"Insert": {"id": EVIL, "content": EVIL, "vault_status": EVIL, EVIL: EVIL, "amplitude": 1.0}}])
    log.frame([{"Update": {"id": EVIL, "content": EVIL * 2, "amplitude": 2.0}}])
    log.write(user.root)
    explorer = ReplayExplorer(user)
    for place in (1, 2, 0, 1):
        explorer.slider.value = place
        assert "<script" not in shown(explorer)
        assert "<img" not in shown(explorer)
    assert "&lt;script&gt;" in shown(explorer)
    assert explorer.life.value[:4] == b"\x89PNG"


def test_emoji_and_a_megabyte_are_shown_in_brief(user):
    big, face = "x" * 1_000_000, "\U0001f937\U0001f3fd\u200d\u2640\ufe0f"
    log = LogBuilder()
    log.frame([{"Insert": {"id": face, "content": face * 50}}, {"Insert": {"id": big, "content": big, "mode": big}}])
    log.frame([{"Update": {"id": big, "content": big[1:], "theme": big}}])
    log.write(user.root)
    explorer = ReplayExplorer(user)
    explorer.slider.value = 1
    assert "\U0001f937" in explorer.state.value
    explorer.slider.value = 3
    assert len(shown(explorer)) < 20_000
    assert max(len(label) for label, _ in explorer.memory.options) <= 60
    assert explorer.message.value == ""


def test_a_user_without_events_is_told_of(user):
    user.root.mkdir(parents=True)
    explorer = ReplayExplorer(user)
    assert "ann has no events yet" in explorer.message.value
    assert explorer.slider.disabled
    assert repr(explorer) == "<ReplayExplorer of ann: behind event 0 of 0, 0 memories live>"


def test_a_user_who_is_not_there_is_a_message(user):
    explorer = ReplayExplorer(user)
    assert "does not exist" in explorer.message.value
    assert explorer.slider.disabled
    assert repr(explorer) == "<ReplayExplorer of ann: nothing to show>"
    assert "image/png" not in explorer._repr_mimebundle_()


def test_a_store_that_vanishes_leaves_what_was_read_and_a_message(explorer):
    shutil.rmtree(explorer.user.store.path)
    explorer.slider.value = 5
    explorer.look_at("m0")
    assert cells(explorer.state.value)[0] == "m1"
    explorer.again.click()
    assert "does not exist" in explorer.message.value
    assert explorer.slider.disabled
    story(explorer.user.root)
    explorer.again.click()
    assert explorer.message.value == ""
    assert not explorer.slider.disabled


def test_a_store_with_checkpoints_that_vanishes_leaves_contents_as_well(user):
    story(user.root)
    user.append({"Insert": {"id": "long", "content": "long " * 100}})
    user.checkpoint(progress=False)
    (user.root / f"wal-{DAYS[0]}.log").unlink()
    explorer = ReplayExplorer(user)
    shutil.rmtree(user.store.path)
    explorer.slider.value = 0
    assert "long long" in explorer.state.value
    assert "what comes next" not in explorer.message.value


def test_a_log_that_is_being_written_is_shown_up_to_its_last_whole_event(explorer):
    with (explorer.user.root / f"wal-{DAYS[2]}.log").open("ab") as file:
        file.write(b'{"timestamp":"2025-07-03T00:00:09.000000Z","event":{"Ins')
    explorer.again.click()
    assert (explorer.slider.max, explorer.message.value) == (12, "")
    explorer.user.append({"Insert": {"id": "new"}})
    explorer.again.click()
    assert "new" in cells(explorer.state.value)
    assert explorer.slider.max > 12


def test_a_damaged_segment_is_told_of_and_the_rest_is_shown(user):
    story(user.root)
    path = user.root / f"wal-{DAYS[1]}.log"
    path.write_bytes(path.read_bytes().replace(b'"access_count":1', b'"access_count":9'))
    explorer = ReplayExplorer(user)
    assert "damaged or missing pieces" in explorer.message.value
    assert explorer.slider.max == 11


def test_a_hole_is_told_of_on_its_edge(user):
    story(user.root)
    for day in DAYS:  # a checkpoint behind all, and before that a day that goes
        if day == DAYS[2]:
            user.checkpoint(progress=False)
            (user.root / f"wal-{DAYS[1]}.log").unlink()
    user.append({"Insert": {"id": "new"}})
    explorer = ReplayExplorer(user)
    assert explorer.message.value == ""
    explorer.slider.value = 4
    assert "what comes next cannot be restored" in explorer.message.value
    assert "unknown: there is a hole" in explorer.changes.value


def test_an_error_nobody_foresaw_is_a_message_too(explorer, monkeypatch):
    monkeypatch.setattr(meshlab.widgets.replay, "compare", lambda *_: 1 / 0)
    explorer.slider.value = 3
    assert "unexpected ZeroDivisionError" in explorer.message.value


def test_ids_that_are_alike_in_brief_are_told_apart(user):
    ids = ["m" * 70 + letter for letter in "abc"]
    user.append_many([{"Insert": {"id": id}} for id in ids])
    explorer = ReplayExplorer(user)
    explorer.look_at(ids[0])
    assert sorted(id for _, id in explorer.memory.options) == ids
    assert len({label for label, _ in explorer.memory.options}) == 3


def test_nothing_of_before_stays_when_the_log_cannot_be_read_any_more(user):
    story(user.root)
    explorer = ReplayExplorer(user)
    assert explorer.to_png()
    shutil.rmtree(user.store.path)
    explorer.again.click()
    assert explorer.message.value != ""
    assert (explorer.state.value, explorer.place.value, explorer.to_png()) == ("", "", None)
    assert explorer.life.layout.display == "none"
