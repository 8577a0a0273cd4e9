"""The tail of a log shows what comes, counts it, and tells in red what is no event."""

from __future__ import annotations

import re
import shutil
import threading

import pytest

import meshlab
from meshlab.widgets import tail as module
from meshlab.widgets.tail import WalTail

from .conftest import DAYS, EVIL, story


@pytest.fixture
def tail(user):
    story(user.root)
    return WalTail(user)


def test_what_was_there_before_does_not_count(tail):
    assert tail.look() == 0
    assert repr(tail) == "<WalTail of ann: 0 events, 0 rejects>"


def test_what_comes_is_shown_the_newest_first(tail):
    tail.user.append_many([{"Insert": {"id": f"n{number}", "amplitude": 0.5}} for number in range(12)])
    tail.user.append({"Delete": "n0"})
    assert tail.look() == 13
    ops = re.findall(r"<td[^>]*>(insert|delete)</td>", tail.events.value)
    assert ops == ["delete", *["insert"] * 9]
    assert "amplitude 0.5" in tail.events.value
    assert "13 events" in tail.rate.value
    assert tail.look() == 0


def test_events_per_second_are_those_of_the_last_seconds(tail, monkeypatch):
    now = tail._began + 10
    monkeypatch.setattr(module.time, "monotonic", lambda: now)
    tail.user.append_many([{"Delete": "x"}] * 20)
    tail.look()
    assert "4.0 events/s" in tail.rate.value
    now += 6
    tail.look()
    assert "0.0 events/s" in tail.rate.value


def test_what_is_no_event_is_told_in_red(tail):
    with (tail.user.root / f"wal-{DAYS[2]}.log").open("ab") as file:
        file.write(b"<script>no event\n")
    tail.user.append({"Insert": {"id": "a"}})
    assert tail.look() == 1
    assert repr(tail).endswith("1 reject>")
    assert "--jp-error-color1" in tail.damage.value
    assert "not-json" in tail.damage.value
    assert "<script" not in tail.damage.value


def test_a_line_in_the_middle_of_its_writing_is_waited_for(tail):
    with (tail.user.root / f"wal-{DAYS[2]}.log").open("ab") as file:
        file.write(b'{"timestamp":"2025-07-03T01:00:00Z","event":{"Insert":')
        file.flush()
        assert (tail.look(), len(tail.rejects)) == (0, 0)
        file.write(b'{"id":"late"}}}\n')
    assert (tail.look(), len(tail.rejects)) == (1, 0)


def test_markup_emoji_and_a_megabyte_are_text_in_brief(tail):
    big = "x" * 1_000_000
    tail.user.append_many([{"Insert": {"id": EVIL, "content": EVIL, EVIL: 1}}, {"Insert": {"id": big, "content": big}}])
    tail.look()
    assert "<script" not in tail.events.value
    assert "<img" not in tail.events.value
    assert "&lt;script&gt;" in tail.events.value
    assert len(tail.events.value) < 5_000


def test_a_user_who_does_not_exist_yet_is_awaited(user):
    other = user.store["bob"]
    other.append({"Insert": {"id": "other"}})
    tail = WalTail(user)
    assert tail.look() == 0
    user.append({"Insert": {"id": "first"}})
    user.append({"Insert": {"id": "second"}})
    assert tail.look() == 2


def test_a_store_that_vanishes_is_a_message_and_one_that_comes_back_is_followed(tail):
    shutil.rmtree(tail.user.store.path)
    assert tail.look() == 0
    assert "does not exist" in tail.message.value
    story(tail.user.root)
    tail.look()
    tail.user.store.close()
    tail.user.append({"Insert": {"id": "again"}})
    assert tail.look() == 1
    assert tail.message.value == ""


def test_a_log_that_was_replaced_is_followed_from_its_end(tail):
    path = tail.user.root / f"wal-{DAYS[2]}.log"
    path.unlink()
    path.write_bytes(b'{"Delete":"x"}\n')
    assert tail.look() == 0
    assert "otherwise than by growing" in tail.message.value


def test_following_shows_what_a_service_writes_meanwhile(tail, monkeypatch, capsys):
    monkeypatch.setattr(module, "POLL", 0.01)
    service = threading.Thread(target=lambda: [tail.user.append({"Delete": "x"}) for _ in range(20)])
    service.start()
    while tail.count < 20:
        tail.follow(seconds=0.05)
    service.join()
    assert tail.count == 20
    assert "<WalTail of ann" in capsys.readouterr().out


def test_an_interrupt_ends_the_following_and_nothing_else(tail, monkeypatch):
    def interrupted(_):
        raise KeyboardInterrupt

    monkeypatch.setattr(module.time, "sleep", interrupted)
    tail.follow()
    assert "stopped with its cell" in tail.message.value


def test_a_damaged_segment_does_not_stop_it(user):
    story(user.root)
    path = user.root / f"wal-{DAYS[2]}.log"
    path.write_bytes(path.read_bytes()[:-40] + b"\x00" * 40)
    tail = WalTail(user)
    user.append({"Insert": {"id": "a"}})
    assert tail.look() >= 1
    assert meshlab.MeshlabError.__name__ not in tail.message.value


def test_a_user_that_is_not_there_yet_or_any_more_is_told(tmp_path):
    (tmp_path / "store").mkdir()
    user = meshlab.open(tmp_path / "store")["ann"]
    tail = WalTail(user)
    assert "ann is not in the store" in tail.message.value
    user.append({"ping": {"text": "hello"}})
    assert tail.look() == 1
    assert tail.message.value == ""
    user.store.close()
    shutil.rmtree(user.root)
    tail.look()
    assert "ann is not in the store" in tail.message.value
