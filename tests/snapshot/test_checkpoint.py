"""Checkpoints: what they fold, what stops them, and what they leave behind when the disk fails them."""

from __future__ import annotations

import errno
import json
import os
import struct
import subprocess
import sys
import threading
from contextlib import suppress
from pathlib import Path
from random import Random

import pytest

from meshlab.errors import CheckpointBusy, DamageFound, MeshlabError, SnapshotError, StorageError, WalPoisoned
from meshlab.replay import replay
from meshlab.snapshot.base import Base
from meshlab.snapshot.checkpoint import locked
from meshlab.snapshot.layers import FAN
from meshlab.snapshot.manifest import CONTENTS, QUARANTINE, RECORDS, Manifest, current, history_path, layer_path
from meshlab.snapshot.vacuum import YOUNG
from meshlab.testing import AttemptedFiles, FailingFiles, ForgetfulFiles, WrappedFiles
from meshlab.times import SECOND
from meshlab.wal.files import REAL_FILES
from scoreboard import stories
from scoreboard.stories import LONG, Shop, copy, insert, names, state, temporary, unreferenced, update

PHASE1 = Path(__file__).parents[2] / "data" / "samples" / "phase1"
EXPECTED = json.loads((Path(__file__).parents[1] / "data" / "phase1-expected.json").read_text(encoding="utf-8"))


@pytest.fixture
def shop(tmp_path):
    return Shop(tmp_path / "mesh" / "u")


def bits(value):
    if isinstance(value, float):
        return struct.pack("<d", value)
    if isinstance(value, dict):
        return {name: bits(item) for name, item in value.items()}
    return value


# What it folds


def test_a_checkpoint_says_what_it_folded(shop):
    shop.append(insert("m1", LONG), insert("m2", LONG), {"Delete": "m2"}, update("nobody", mode="Dark"))
    report = shop.checkpoint()
    assert report.events == 4
    assert (report.records, report.changed, report.gone, report.orphans) == (1, 1, 0, 1)
    assert (report.generation, report.bytes_folded) == (1, shop.segment().stat().st_size)
    assert report.bytes_written == sum(layer.nbytes for layer in shop.manifest.layers)
    assert report.state_hash == shop.manifest.state_hash
    assert [orphan["id"] for orphan in shop.manifest.last_orphans] == ["nobody"]
    shop.append({"Delete": "m1"})
    report = shop.checkpoint()
    assert (report.records, report.changed, report.gone) == (0, 0, 1)


def test_a_checkpoint_with_nothing_new_writes_nothing(shop):
    shop.append(insert("m1"))
    shop.checkpoint()
    before = names(shop.root)
    report = shop.checkpoint()
    assert (report.generation, report.events, report.bytes_written) == (1, 0, 0)
    assert names(shop.root) == before
    assert shop.checkpoint(retain=3).generation == 2, "another retention is something new"
    assert shop.manifest.retain_days == 3


def test_the_first_checkpoint_of_an_empty_log_is_one(shop):
    shop.root.mkdir(parents=True)
    assert shop.checkpoint().generation == 1
    assert state(shop.root) == []
    shop.append(insert("m1"))
    assert shop.checkpoint().records == 1


def test_late_lines_of_a_foreign_program_come_behind_what_was_folded(shop):
    shop.append(insert("m1", "old"), insert("m2", "old"))
    shop.later()
    shop.append(insert("m1", "new"))
    shop.checkpoint()
    shop.foreign({"Update": {"id": "m1", "content": "late"}}, day="20250707")
    assert shop.records()["m1"]["content"] == "late"
    assert shop.checkpoint().events == 1
    assert shop.records()["m1"]["content"] == "late"
    assert [piece.segment for piece in shop.manifest.folded] == ["20250707", "20250708", "20250707"]


def test_an_unfinished_last_line_of_a_foreign_program_waits_until_it_is_finished(shop):
    shop.append(insert("m1"))
    line = b'{"Insert":{"id":"m2","content":"half"}}\n'
    shop.foreign(line[:20])
    whole = shop.segment().stat().st_size
    assert shop.checkpoint().events == 1
    assert shop.manifest.folded_ends == {"20250707": whole - 20}
    assert shop.checkpoint().generation == 1, "there is nothing to fold yet"
    shop.foreign(line[20:])
    assert shop.checkpoint().events == 1
    assert sorted(shop.records()) == ["m1", "m2"]


def test_a_torn_tail_does_not_stop_a_checkpoint_nor_when_it_was_named(shop):
    shop.append(insert("m1"))
    shop.foreign(b'{"timestamp":"2025-07-07T12:00:00.000000Z","ev')
    assert shop.checkpoint().events == 1
    shop.close()
    shop.append(insert("m2"))
    assert shop.checkpoint().events == 2, "the Recovered frame and the insert"
    assert shop.manifest.accepted == []


# What changed behind a fold


def test_a_segment_shorter_than_what_was_folded_stops_the_next_checkpoint(shop):
    shop.append(insert("m1"), insert("m2"))
    shop.checkpoint()
    data = shop.segment().read_bytes()
    shop.segment().write_bytes(data[:-10])
    with pytest.raises(SnapshotError, match=rf"wal-20250707.log has {len(data) - 10} bytes; {len(data)} were folded"):
        shop.checkpoint()
    shop.segment().write_bytes(data)
    assert shop.checkpoint().generation == 1


def test_a_segment_changed_before_the_end_of_what_was_folded_stops_the_next_checkpoint(shop):
    shop.append(insert("m1"), insert("m2"))
    shop.checkpoint()
    data = bytearray(shop.segment().read_bytes())
    data[30] ^= 1
    shop.segment().write_bytes(data)
    with pytest.raises(SnapshotError, match=r"wal-20250707.log differs before offset \d+ from what was folded"):
        shop.checkpoint()


def test_a_folded_segment_deleted_by_hand_does_not_stop_a_checkpoint(shop):
    """Its records are in the layers; only moments in between are lost, which the windows tell."""
    shop.append(insert("m1"))
    shop.later()
    shop.append(insert("m2"))
    shop.checkpoint()
    shop.segment("20250707").unlink()
    shop.append({"Delete": "m2"})
    assert shop.checkpoint().events == 1
    assert list(shop.records()) == ["m1"]
    shop.foreign({"Insert": {"id": "m3"}}, day="20250707")
    with pytest.raises(SnapshotError, match=r"wal-20250707.log has \d+ bytes; \d+ were folded"):
        shop.checkpoint()


# Damage


def damaged(shop):
    """Two damaged places; returns them as an operator names them."""
    shop.append(insert("m1"))
    places = []
    for junk in (b"no json at all\n", b'{"Insert":{"id":"m9"},}\n'):
        places.append(f"wal-20250707.log:{shop.segment().stat().st_size}")
        shop.foreign(junk)
        shop.append(insert(f"m{len(places) + 1}"))
    return places


def test_damage_stops_a_checkpoint_which_names_every_place(shop):
    places = damaged(shop)
    before = names(shop.root)
    with pytest.raises(DamageFound) as caught:
        shop.checkpoint()
    assert all(place in caught.value.message for place in places)
    assert "(line 2)" in caught.value.message and "(line 4)" in caught.value.message
    assert caught.value.hint.endswith(" ".join(f"--accept {place}" for place in places))
    assert names(shop.root) == sorted([*before, "snapshot.bin"]), "no layer is left"
    assert current(shop.root, "u").generation == 0


def test_damage_in_many_places_is_named_place_by_place(shop):
    shop.append(insert("m1"))
    for _ in range(40):
        shop.foreign(b"junk\n")
    shop.append(insert("m2"))
    with pytest.raises(DamageFound) as caught:
        shop.checkpoint()
    assert len(caught.value.places) == 40
    assert shop.checkpoint(accept=caught.value.places).accepted == 40


@pytest.mark.parametrize("chosen", [slice(0, 0), slice(0, 1), slice(1, 2)])
def test_accepting_only_some_or_other_places_still_stops(shop, chosen):
    places = damaged(shop)
    with pytest.raises(DamageFound) as caught:
        shop.checkpoint(accept=[*places[chosen], "wal-20250707.log:1", "20250707:0"])
    assert set(caught.value.places) == set(places) - set(places[chosen])


def test_accepted_damage_is_kept_aside_and_stops_nobody_again(shop):
    places = damaged(shop)
    assert shop.checkpoint(accept=places).accepted == 2
    assert sorted(shop.records()) == ["m1", "m2", "m3"]
    assert [(f"wal-{one.segment}.log:{one.offset}", one.nbytes, one.kind) for one in shop.manifest.accepted] == [
        (places[0], 15, "not-json"),
        (places[1], 24, "not-json"),
    ]
    (layer,) = shop.manifest.of_kind(QUARANTINE)
    kept = read_quarantine(shop.root, layer)
    assert kept == [b"no json at all\n", b'{"Insert":{"id":"m9"},}\n']
    shop.append(insert("m4"))
    assert shop.checkpoint().accepted == 0
    assert len(shop.manifest.accepted) == 2
    assert shop.manifest.of_kind(QUARANTINE) == [layer]


def read_quarantine(root, layer):
    import pyarrow.parquet as pq

    return pq.read_table(layer_path(root, layer))["raw"].to_pylist()


# One at a time, and beside appends


def test_a_second_checkpoint_is_refused_in_another_thread_and_process(shop):
    shop.append(insert("m1"))
    shop.close()
    with locked(shop.root, REAL_FILES):
        with pytest.raises(CheckpointBusy, match="under way"):
            shop.checkpoint()
        with pytest.raises(CheckpointBusy):
            shop.checkpoint(dry_run=True)
        with pytest.raises(CheckpointBusy):
            shop.vacuum()
        caught = []

        def work():
            try:
                shop.checkpoint()
            except MeshlabError as error:
                caught.append(type(error))

        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
        assert caught == [CheckpointBusy]
        program = f"import meshlab; meshlab.open({str(shop.root.parent)!r})['u'].checkpoint(progress=False)"
        done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
        assert "CheckpointBusy" in done.stderr
    assert shop.checkpoint().records == 1


class Meanwhile(WrappedFiles):
    """Does something before the nth operation of a kind on a name."""

    def __init__(self, inner, act, kind, nth=1):
        super().__init__(inner)
        self.act, self.kind, self.left = act, kind, nth

    def _look(self, kind):
        if kind == self.kind and self.left:
            self.left -= 1
            if not self.left:
                self.act()

    def rename(self, source, target):
        self._look("rename")
        super().rename(source, target)

    def sync(self, fd):
        self._look("sync")
        super().sync(fd)

    def mkdir(self, path):
        self._look("mkdir")
        super().mkdir(path)

    def write(self, fd, data):
        self._look("write")
        return super().write(fd, data)


@pytest.mark.parametrize(("kind", "nth"), [("mkdir", 1), ("sync", 1), ("sync", 2), ("write", 20), ("rename", 3)])
def test_appends_go_on_during_a_checkpoint_and_the_next_one_folds_them(shop, kind, nth):
    shop.append(insert("m1", LONG))

    def act():
        shop.append(insert("m2"))
        shop.later()
        shop.append(insert("m3"))

    files = Meanwhile(shop.files, act, kind, nth)
    shop.checkpoint(files)
    assert not files.left
    assert sorted(shop.records()) == ["m1", "m2", "m3"]
    shop.checkpoint()
    assert (sorted(shop.records()), shop.manifest.records) == (["m1", "m2", "m3"], 3)


def test_a_day_that_begins_right_after_the_ends_were_noted_is_for_the_next_checkpoint(shop, monkeypatch):
    from meshlab.snapshot import checkpoint as module

    rest = module.rest

    def tomorrow(root, manifest):
        shop.later()
        shop.append(insert("m2"))
        return rest(root, manifest)

    shop.append(insert("m1"))
    monkeypatch.setattr(module, "rest", tomorrow)
    assert shop.checkpoint().records == 1
    monkeypatch.undo()
    assert shop.checkpoint().records == 2


# Power cuts


class NoSync(ForgetfulFiles):
    """The twin whose syncs of files do nothing."""

    def sync(self, fd):
        pass


@pytest.mark.parametrize("disk", [ForgetfulFiles, NoSync])
def test_what_a_manifest_has_folded_is_there_though_the_writer_never_synced(tmp_path, disk):
    shop = Shop(tmp_path / "mesh" / "u", disk())
    shop.append(insert("m1", LONG), insert("m2"), durability="os")
    shop.checkpoint()
    shop.append(update("m1", mode="Dark"), durability="os")
    shop.checkpoint()
    shop.append({"Delete": "m2"}, durability="os")
    expected = [json.dumps(record) for record in shop.records().values() if record["id"] == "m1"]
    shop.crash()
    if disk is NoSync:
        with pytest.raises((MeshlabError, AssertionError)):
            assert state(shop.root)[:1] == expected
        return
    assert sorted(shop.records()) == ["m1", "m2"], "the delete was not folded and never synced"
    assert state(shop.root)[:1] == expected
    shop.close()
    shop.append({"Delete": "m2"})
    shop.checkpoint()
    shop.crash()
    assert state(shop.root) == expected


def test_a_sync_of_the_log_that_fails_in_a_checkpoint_poisons_it(shop):
    """The page cache shows bytes that are not on the disk, and a second sync would succeed without them."""
    shop.append(insert("m1"))
    shop.checkpoint()
    shop.append(insert("m2"), durability="os")
    with pytest.raises(StorageError, match=r"cannot sync .*wal-20250707.log"):
        shop.checkpoint(FailingFiles(shop.files, "sync", name="wal-*"))
    with pytest.raises(WalPoisoned):
        shop.checkpoint()
    shop.close()
    shop.append(insert("m3"))
    assert shop.checkpoint().records == 3
    shop.crash()
    assert sorted(shop.records()) == ["m1", "m2", "m3"]


def test_a_layer_that_a_killed_checkpoint_left_is_durable_before_it_is_named(tmp_path):
    """The process is killed between the rename of a layer and the sync of its directory; the power stays on."""
    made = stories.first(tmp_path / "made" / "u")
    diary = AttemptedFiles(ForgetfulFiles())
    Shop(copy(made.root, tmp_path / "0" / "u")).checkpoint(diary)
    renames = [at for at, (kind, path) in enumerate(diary.attempts, 1) if kind == "rename" and "layers" in str(path)]
    assert len(renames) == 2
    for at in renames:
        shop = Shop(copy(made.root, tmp_path / str(at) / "u"))
        with pytest.raises(RuntimeError):
            shop.checkpoint(FailingFiles(shop.files, nth=at + 1, error=RuntimeError("killed"), forever=True))
        assert unreferenced(shop.root)
        shop.checkpoint()
        shop.crash()
        assert state(shop.root) == state(made.root)


# A full disk


@pytest.mark.parametrize(
    ("story", "kind"),
    [
        *((stories.first, kind) for kind in ("write", "open", "rename", "mkdir", "link", "sync", "sync_directory")),
        *((stories.second, kind) for kind in ("write", "rename", "link")),
        *((stories.upgrading, kind) for kind in ("rename", "link", "mkdir", "sync_directory")),
    ],
)
def test_a_full_disk_in_the_middle_leaves_the_old_snapshot_and_nothing_else(tmp_path, story, kind):
    made = story(tmp_path / "made" / "u")
    expected, before = state(made.root), current(made.root, "u")
    options = {"upgrade": True} if story is stories.upgrading else {}
    diary = AttemptedFiles(ForgetfulFiles())
    Shop(copy(made.root, tmp_path / "0" / "u")).checkpoint(diary, **options)
    count = [one for one, _ in diary.attempts].count(kind)
    for nth in range(1, count + 1, 15 if kind == "write" else 1):
        shop = Shop(copy(made.root, tmp_path / str(nth) / "u"))
        old = names(shop.root)
        files = FailingFiles(shop.files, kind, nth, error=errno.ENOSPC)
        with pytest.raises(StorageError, match="No space left on device") as caught:
            shop.checkpoint(files, **options)
        assert str(shop.root) in caught.value.message or str(shop.root.parent) in caught.value.message
        assert "free space" in caught.value.hint
        now = current(shop.root, "u")
        if isinstance(now, Manifest) and now.generation == 1 + getattr(before, "generation", 0):
            assert kind == "sync_directory", "the last step failed: the new one is in force, perhaps not for good"
        elif isinstance(before, Manifest):
            assert (now, names(shop.root)) == (before, sorted({*old, *linked(shop, before)}))
        else:
            assert set(names(shop.root)) - set(old) <= {"snapshot.bin", "history/00000000.bin"}
            assert isinstance(now, Path) == isinstance(before, Path)
        assert (temporary(shop.root), unreferenced(shop.root)) == ([], [])
        assert state(shop.root) == expected
        shop.append(update("m3", mode="Bright"))
        after = state(shop.root)
        shop.checkpoint(**options if isinstance(now, Path) else {})
        shop.crash()
        assert state(shop.root) == after


def linked(shop, before):
    """The name in ``history/`` that a checkpoint which failed late has given to the manifest in force."""
    path = history_path(shop.root, before.generation)
    return [path.relative_to(shop.root).as_posix()] if path.exists() else []


@pytest.mark.parametrize("kind", ["write", "open", "rename", "sync", "sync_directory", "unlink"])
def test_a_disk_that_fails_in_the_middle_of_a_vacuum_leaves_nothing_half_done(tmp_path, kind):
    made = stories.aged(tmp_path / "made" / "u")
    expected = state(made.root)
    diary = AttemptedFiles(ForgetfulFiles())
    Shop(copy(made.root, tmp_path / "0" / "u"), now=made.now).vacuum(diary)
    count = [one for one, _ in diary.attempts].count(kind)
    for nth in range(1, count + 1, {"write": 15, "unlink": 3}.get(kind, 1)):
        shop = Shop(copy(made.root, tmp_path / str(nth) / "u"), now=made.now)
        files = FailingFiles(shop.files, kind, nth, error=errno.ENOSPC)
        try:
            shop.vacuum(files)
        except StorageError as error:
            assert str(shop.root) in error.message
            assert "free space" in error.hint
        else:
            assert kind == "unlink", "of what was not there, or only temporary"
        assert state(shop.root) == expected
        assert temporary(shop.root) == [] or kind == "unlink"
        shop.vacuum()
        assert temporary(shop.root) == []
        shop.now += YOUNG + SECOND
        shop.vacuum()
        assert unreferenced(shop.root) == []
        shop.crash()
        assert state(shop.root) == expected


@pytest.fixture
def small_disk(tmp_path):
    """A real file system of 1 MiB, or None where this user may not mount one."""
    path = tmp_path / "disk"
    path.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(path)]
    try:
        mounted = sys.platform == "linux" and not subprocess.run(command, capture_output=True).returncode
    except OSError:
        mounted = False
    yield path if mounted else None
    if mounted:
        subprocess.run(["umount", "-l", str(path)], check=True)


def test_a_real_disk_that_fills_up_in_the_middle_is_left_as_it_was(small_disk):
    if small_disk is None:
        return
    shop = Shop(small_disk / "mesh" / "u", REAL_FILES)
    random = Random(1)
    shop.append(insert("m0", LONG))
    shop.checkpoint()
    shop.append(*(insert(f"m{number}", random.randbytes(1000).hex()) for number in range(200)))
    shop.close()
    filler = small_disk / "filler"
    before, expected = names(shop.root), state(shop.root)
    for free in (0, 8, 100, 300):
        with suppress(OSError), filler.open("wb", buffering=0) as file:
            while file.write(bytes(4096)):
                pass
        os.truncate(filler, max(0, filler.stat().st_size - free * 1024))
        with pytest.raises(StorageError, match=rf"cannot write .*{shop.root.name}.*: No space left on device"):
            shop.checkpoint()
        assert (names(shop.root), temporary(shop.root)) == (before, [])
        assert state(shop.root) == expected
        filler.unlink()
    assert shop.checkpoint().generation == 2
    assert state(shop.root) == expected


# Rehearsals


@pytest.mark.parametrize("story", [stories.first, stories.second, stories.merging, stories.upgrading])
def test_a_dry_run_has_the_figures_of_the_real_one_and_leaves_no_file(tmp_path, story):
    shop = story(tmp_path / "u")
    before = {name: (shop.root / name).read_bytes() for name in names(shop.root)}
    options = {"upgrade": True} if story is stories.upgrading else {}
    rehearsed = shop.checkpoint(dry_run=True, **options)
    assert {name: (shop.root / name).read_bytes() for name in names(shop.root)} == before
    assert not any(path.is_dir() and path.name.startswith(".") for path in shop.root.iterdir())
    real = shop.checkpoint(**options)
    assert rehearsed.dry_run and not real.dry_run
    same = {"seconds": 0.0, "dry_run": False}
    assert rehearsed._replace(**same) == real._replace(**same)


def test_a_dry_run_finds_the_same_damage_and_the_same_phase_1_map(shop, tmp_path):
    places = damaged(shop)
    with pytest.raises(DamageFound) as caught:
        shop.checkpoint(dry_run=True)
    assert list(caught.value.places) == places
    assert temporary(shop.root) == []
    assert shop.checkpoint(dry_run=True, accept=places).accepted == 2
    old = stories.upgrading(tmp_path / "old")
    with pytest.raises(SnapshotError, match="phase-1"):
        old.checkpoint(dry_run=True)


def test_what_a_killed_dry_run_left_is_gone_after_the_next_one(shop):
    shop.append(insert("m1", LONG))
    trial = shop.root / ".trial"
    for act in (lambda: shop.checkpoint(dry_run=True), shop.checkpoint):
        trial.mkdir()
        (trial / ("0" * 64 + ".parquet")).write_bytes(b"left")
        (trial / ".1-1.tmp").write_bytes(b"left")
        act()
        assert not trial.exists()


# From phase 1


def test_the_cut_over_needs_to_be_asked_for_and_keeps_the_original(tmp_path):
    shop = stories.upgrading(tmp_path / "u")
    original = (shop.root / "snapshot.bin").read_bytes()
    before, expected = names(shop.root), state(shop.root)
    with pytest.raises(SnapshotError, match="phase-1 snapshot") as caught:
        shop.checkpoint()
    assert "--upgrade" in caught.value.hint
    assert names(shop.root) == before
    shop.checkpoint(upgrade=True)
    assert history_path(shop.root, 0).read_bytes() == original
    assert state(shop.root) == expected
    shop.append(insert("n1"))
    assert shop.checkpoint(upgrade=True).generation == 2, "asked for in vain it does no harm"


def test_a_phase_1_program_that_goes_on_writing_after_the_cut_over_is_noticed(tmp_path):
    shop = stories.upgrading(tmp_path / "u")
    original = (shop.root / "snapshot.bin").read_bytes()
    shop.checkpoint(upgrade=True)
    (shop.root / "snapshot.bin").unlink()
    (shop.root / "snapshot.bin").write_bytes(original + b"more")
    with pytest.raises(SnapshotError, match="a phase-1 program is still writing"):
        shop.checkpoint(upgrade=True)


def test_a_cut_over_that_failed_lets_the_phase_1_program_go_on(tmp_path):
    shop = stories.upgrading(tmp_path / "u")
    with pytest.raises(StorageError):
        shop.checkpoint(FailingFiles(shop.files, "rename", 2, error=errno.ENOSPC), upgrade=True)
    path = shop.root / "snapshot.bin"
    data = path.read_bytes()
    path.unlink()
    path.write_bytes(struct.pack("<Q", 0))
    assert list(shop.records()) == ["m1"], "only what the log says"
    path.write_bytes(data)
    assert shop.checkpoint(upgrade=True).generation == 1


def test_a_map_with_a_lying_length_is_refused_and_nothing_is_left(tmp_path):
    shop = stories.upgrading(tmp_path / "u")
    path = shop.root / "snapshot.bin"
    data = bytearray(path.read_bytes())
    data[8:16] = struct.pack("<Q", 1 << 60)
    path.write_bytes(data)
    log, before = shop.segment().read_bytes(), names(shop.root)
    with pytest.raises(SnapshotError, match=r"snapshot.bin: byte \d+"):
        shop.checkpoint(upgrade=True)
    assert (names(shop.root), shop.segment().read_bytes()) == (before, log)


@pytest.mark.parametrize("uid", sorted(EXPECTED))
def test_users_of_phase_1_have_the_expected_records_after_the_cut_over(tmp_path, uid):
    root = copy(PHASE1 / uid, tmp_path / uid)
    from meshlab.snapshot.checkpoint import checkpoint

    report = checkpoint(root, uid, upgrade=True, files=ForgetfulFiles(), progress=False)
    assert report.records == len(EXPECTED[uid])
    records = {record["id"]: record for record in replay(root, uid, progress=False).to_pylist()}
    assert bits(records) == bits(EXPECTED[uid])
    manifest = current(root, uid)
    assert Base.open(root, manifest).state().num_rows == len(EXPECTED[uid])
    assert history_path(root, 0).read_bytes() == (PHASE1 / uid / "snapshot.bin").read_bytes()


# Merging


def test_layers_are_merged_and_every_generation_still_reads(shop):
    reports = []
    for number in range(3 * FAN):
        shop.append(insert(f"m{number % 5}", LONG + str(number)), {"Delete": f"m{(number + 2) % 5}"})
        reports.append(shop.checkpoint())
        assert state(shop.root)
    assert sum(report.bytes_merged > 0 for report in reports) >= 3
    assert len(shop.manifest.of_kind(RECORDS)) < FAN
    assert len(shop.manifest.of_kind(CONTENTS)) <= FAN
    assert unreferenced(shop.root) == []


def test_the_same_layer_may_stand_in_two_places_of_the_stack(shop):
    """A memory toggled back gives the very bytes of an earlier layer: what lies between them stays between."""
    shop.append(*[insert(f"m{number:04}", f"{number * 7919 % 10007}" * 20) for number in range(15000)])
    shop.checkpoint()
    toggle = insert("m0000", "on")
    shop.append(toggle)
    shop.checkpoint()
    shop.append(*[insert(f"m{number:04}", f"{number * 7919 % 10009}" * 20) for number in range(3500)])
    shop.checkpoint()
    shop.append(toggle)
    shop.checkpoint()
    layers = shop.manifest.of_kind(RECORDS)
    assert layers[1] == layers[3] and layers[2].nbytes > 64 << 10
    for number in range(FAN - 1):
        shop.append(insert(f"n{number}"))
        shop.checkpoint()
    found = shop.manifest.of_kind(RECORDS)
    assert (len(found), found[:3]) == (4, layers[:3]), "the second one was merged, the first stays where it is"
    assert shop.records()["m0000"]["content"] == "on"
    assert state(shop.root)


def test_a_negative_retention_is_refused(shop):
    shop.append(insert("m1"))
    with pytest.raises(MeshlabError, match="retention"):
        shop.checkpoint(retain=-1)
