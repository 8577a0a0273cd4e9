"""The buttons of a migration can be pressed only in the order in which they are safe."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

import meshlab
from meshlab.migrate import make_plan
from meshlab.migrate import rehearsal as stage
from meshlab.widgets.migration import MigrationRehearsal

SAMPLES = Path(__file__).parents[2] / "data" / "samples"


@pytest.fixture
def old(tmp_path):
    return shutil.copytree(SAMPLES / "scoped", tmp_path / "old", ignore=shutil.ignore_patterns("bela*"))


@pytest.fixture
def panel(old, tmp_path):
    return MigrationRehearsal(old, store=tmp_path / "new")


def pressable(panel):
    return [name for name in ("rehearse", "apply", "back") if not getattr(panel, name).disabled]


def migrated(panel):
    store = meshlab.open(panel.plan.store)
    return [uid for uid in store.users() if not uid.startswith(".")] if store.path.is_dir() else []


def test_at_first_there_is_a_plan_and_only_a_rehearsal_to_press(panel):
    assert "ready to be rehearsed" in panel.told.value
    assert pressable(panel) == ["rehearse"]
    assert panel.word.disabled
    assert repr(panel) == "<MigrationRehearsal of 1 user: planned>"
    assert panel.to_png() is None


def test_apply_takes_a_passed_rehearsal_and_the_name_of_the_store(panel):
    told = []
    panel.bar.observe(lambda change: told.append(change.new), "value")
    panel.rehearse.click()
    assert "passed" in panel.verdict.value
    assert max(told) == 100
    assert pressable(panel) == ["rehearse"]
    panel.word.value = "old"
    assert pressable(panel) == ["rehearse"]
    panel.word.value = "new"
    assert pressable(panel) == ["rehearse", "apply"]
    assert migrated(panel) == []
    panel.apply.click()
    assert migrated(panel) == ["ada"]
    assert "1 user, 0 failed" in panel.outcome.value
    assert pressable(panel) == ["back"]
    assert panel.to_png()[:4] == b"\x89PNG"


def test_back_gives_the_old_layout_again(panel):
    before = {path.name: path.read_bytes() for path in Path(panel.plan.source).iterdir()}
    panel.rehearse.click()
    panel.word.value = "new"
    panel.apply.click()
    panel.back.click()
    assert migrated(panel) == []
    assert repr(panel) == "<MigrationRehearsal of 1 user: rolled back>"
    assert {path.name: path.read_bytes() for path in Path(panel.plan.source).iterdir()} == before
    assert pressable(panel) == ["rehearse"]


def test_a_failed_rehearsal_is_red_and_lets_nothing_be_applied(panel, monkeypatch):
    real = stage.carry_out

    def clumsy(plan, store, **options):
        report = real(plan, store, **options)
        with meshlab.open(store) as scratch:
            scratch["ada"].append({"Delete": scratch["ada"].state(progress=False).to_pylist()[0]["id"]})
        return report

    monkeypatch.setattr(stage, "carry_out", clumsy)
    panel.rehearse.click()
    panel.word.value = "new"
    assert "FAILED" in panel.verdict.value
    assert pressable(panel) == ["rehearse"]
    assert migrated(panel) == []


def test_a_click_that_was_on_its_way_when_the_button_went_grey_does_nothing(panel):
    panel.apply.click()
    panel.back.click()
    assert migrated(panel) == []
    assert repr(panel) == "<MigrationRehearsal of 1 user: planned>"


def test_a_file_that_changed_is_a_message(panel, old):
    with (old / "ada.wal").open("ab") as file:
        file.write(b"\n")
    panel.rehearse.click()
    assert "ada.wal" in panel.message.value
    assert pressable(panel) == ["rehearse"]


def test_a_source_that_is_not_there_or_vanishes_is_a_message(panel, old, tmp_path):
    missing = MigrationRehearsal(tmp_path / "nowhere", store=tmp_path / "new")
    assert "nowhere" in missing.message.value
    assert pressable(missing) == []
    assert "image/png" not in missing._repr_mimebundle_()
    shutil.rmtree(old)
    panel.rehearse.click()
    assert panel.message.value != ""
    assert migrated(panel) == []


def test_a_plan_with_problems_is_shown_and_cannot_be_rehearsed(old, tmp_path):
    panel = MigrationRehearsal(old, store=old)
    assert "NOT ready" in panel.told.value
    assert pressable(panel) == []


def test_a_plan_made_before_is_taken_as_it_is(old, tmp_path):
    plan = make_plan(old, tmp_path / "new", progress=False)
    assert MigrationRehearsal(plan).plan is plan


def test_names_of_files_that_are_markup_are_text(old, tmp_path):
    (old / "<img src=x onerror=alert(1)>.txt").write_bytes(b"nothing")
    panel = MigrationRehearsal(old, store=tmp_path / "new")
    assert "<img" not in panel.told.value


def test_another_panel_leads_back_what_one_has_applied(panel, old, tmp_path):
    panel.rehearse.click()
    panel.word.value = "new"
    panel.apply.click()
    assert migrated(panel) == ["ada"]
    for source in (panel.plan, old):
        later = MigrationRehearsal(source, store=tmp_path / "new")
        assert pressable(later) == ["back"]
        assert "it can be rolled back" in later.outcome.value
    later.back.click()
    assert migrated(panel) == []
    assert pressable(MigrationRehearsal(old, store=tmp_path / "new")) == ["rehearse"]


def test_a_store_that_went_is_told_when_there_is_nothing_to_bring_back(panel, tmp_path):
    panel.rehearse.click()
    panel.word.value = "new"
    panel.apply.click()
    shutil.rmtree(tmp_path / "new")
    panel.back.click()
    assert "no longer in the store" in panel.message.value
