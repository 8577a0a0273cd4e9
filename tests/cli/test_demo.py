"""``demo`` does the main job: verify, load, replay, a table per user, a page and a picture."""

import json

import pytest

from meshlab.cli import sample
from meshlab.cli.sample import repository_folder
from meshlab.errors import MeshlabError, NotFound


def test_the_sample_store_gives_a_table_a_page_and_a_picture(meshlab, tmp_path):
    result = meshlab("demo")
    assert result.exit_code == 0, result.stderr
    for uid in repository_folder("data", "samples", "store").iterdir():
        assert uid.name in result.stdout
    assert (tmp_path / "build/demo/01_replay.html").read_text(encoding="utf-8").startswith("<!DOCTYPE html>")
    assert (tmp_path / "build/demo/01_replay.png").read_bytes().startswith(b"\x89PNG")
    assert "build/demo/01_replay.html" in result.stderr
    assert "next:" in result.stderr


def test_a_bigger_store_is_built_first_and_again(meshlab, tmp_path):
    for events in (60, 90):
        result = meshlab("demo", "--events", events, "--users", 3, "--days", 2, "--out", "out", "--format", "json")
        assert result.exit_code == 0, result.stderr
        rows = json.loads(result.stdout)
        assert len(rows) == 3
        assert sum(row["events"] for row in rows) == events
        assert all(row["in meshlab"] == row["events"] for row in rows)
    assert (tmp_path / "out" / "01_replay.html").exists()


def test_a_folder_that_the_demo_did_not_build_is_never_replaced(tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "data").write_text("precious")
    with pytest.raises(MeshlabError, match="not empty"):
        sample.build_store(tmp_path / "mine", events=10, users=1, days=1)
    assert (tmp_path / "mine" / "data").read_text() == "precious"


def test_an_installation_without_the_repository_says_so(monkeypatch, tmp_path):
    monkeypatch.setattr(sample.meshlab, "__file__", str(tmp_path / "site-packages" / "meshlab" / "__init__.py"))
    with pytest.raises(NotFound, match="part of the repository, not of the package"):
        repository_folder("data", "samples", "store")
