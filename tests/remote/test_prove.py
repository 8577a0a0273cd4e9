"""Proved, failed, inconclusive: each for its reason."""

import shutil

import pytest

from meshlab.remote.bucket import MemoryBucket
from meshlab.remote.image import MAGIC
from meshlab.remote.line import list_images
from meshlab.replay import replay
from meshlab.snapshot.hashing import row_hashes
from scoreboard.sites import Faulty, Site, grow, insert, update


@pytest.fixture
def site(tmp_path):
    made = Site(tmp_path / "store", MemoryBucket())
    made.append(insert("m1"))
    made.append(update("m1", amplitude=0.5))
    made.push()
    return made


def test_a_log_is_proved_beside_its_original_and_inconclusive_without(site, tmp_path):
    proof = site.prove()
    assert (proof.outcome, proof.compared, proof.records) == ("proved", ["log", "original"], 1)
    assert proof.state_hash == site.state()
    away = Site(tmp_path / "away", site.remote.bucket.inner)
    proof = away.prove()
    assert proof.outcome == "inconclusive" and "nothing" not in proof.reason and "original" in proof.reason


def test_a_checkpoint_is_proved_without_the_original(site, tmp_path):
    site.checkpoint()
    site.append(insert("m2"))
    site.push()
    proof = Site(tmp_path / "away", site.remote.bucket.inner).prove()
    assert (proof.outcome, proof.compared) == ("proved", ["checkpoint", "log"])
    assert site.prove().compared == ["checkpoint", "log", "original"]


def test_an_original_that_has_gone_on_is_compared_where_the_image_ends(site):
    site.checkpoint()
    site.push()
    for step in range(3):
        site.append(insert(f"later {step}"))
        site.checkpoint()
    proof = site.prove()
    assert (proof.outcome, "original" in proof.compared) == ("proved", True)
    assert proof.state_hash != site.state()


def test_an_original_whose_vacuum_has_gone_past_the_image_is_no_contradiction(tmp_path):
    site = Site(tmp_path / "store", MemoryBucket())
    for step in range(2):
        grow(site, step)
    site.push()
    for step in range(2, 8):
        grow(site, step)
    proof = site.prove()
    assert (proof.outcome, proof.compared) == ("inconclusive", ["log"])


def test_a_restored_state_that_differs_from_the_original_fails(site, monkeypatch):
    """A replay of the restored copy that comes to something else, as by a defect of ours."""
    from meshlab.remote import prove

    monkeypatch.setattr(prove, "replay", lambda root, uid, **options: replay(root, uid, "20250707:0", **options))
    proof = site.prove()
    assert proof.outcome == "failed"
    assert "the original has state hash" in proof.reason and site.state() in proof.reason


def test_layers_that_do_not_come_to_the_state_hash_of_their_manifest_fail(site, monkeypatch, tmp_path):
    site.checkpoint()
    site.push()
    from meshlab.remote import prove

    monkeypatch.setattr(prove, "row_hashes", lambda batch: row_hashes(batch.slice(1)))
    proof = site.prove()
    assert proof.outcome == "failed" and "its layers come to" in proof.reason


def test_a_bucket_that_does_not_answer_is_inconclusive_and_one_without_the_user_has_failed(site, tmp_path):
    assert site.prove("nobody").outcome == "failed"
    site.remote.bucket.inner = Faulty(site.remote.bucket.inner, 2, forever=True)
    proof = site.prove()
    assert (proof.outcome, proof.hint != "") == ("inconclusive", True)


def test_an_image_that_was_changed_fails(site):
    (key,) = list_images(site.remote.bucket)["ann"].keys
    data = bytearray(site.remote.bucket.get(str(key)))
    data[-1] ^= 1
    site.remote.bucket.put(str(key), bytes(data))
    assert site.prove().outcome == "failed"
    site.remote.bucket.put(str(key), MAGIC)
    assert site.prove().outcome == "failed"


def test_the_last_proof_is_remembered_with_the_last_that_held(site):
    assert site.remote.status("ann").users[0].proved_at == 0
    site.prove()
    first = site.remote.status("ann").users[0]
    assert (first.proof, first.proved_at) == ("proved", site.now)
    site.later()
    for found in list(site.remote.bucket.list("data/")):
        site.remote.bucket.delete([found.key])
    site.prove()
    second = site.remote.status("ann").users[0]
    assert (second.proof, second.proved_at) == ("failed", first.proved_at)


def test_a_proof_leaves_nothing_behind_and_touches_no_user(site, tmp_path):
    before = sorted(path.name for path in site.path.iterdir())
    site.prove()
    assert sorted(path.name for path in site.path.iterdir()) == before
    assert not list((site.path / ".meshlab" / "remote" / "scratch").iterdir())
    shutil.rmtree(site.root)
    assert site.prove().outcome == "inconclusive"
    assert not site.root.exists()
