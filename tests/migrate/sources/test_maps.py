"""A single bincode map: into the new layout, and back."""

from __future__ import annotations

import math
import struct

import pytest

from meshlab.errors import MeshlabError, SnapshotError, StorageError
from meshlab.migrate.sources.maps import MapSource
from meshlab.migrate.sources.source import LeftOver, find_sources
from meshlab.snapshot.bincode import read_bincode, write_bincode
from meshlab.snapshot.manifest import current

from .older import PHASE1, built, changed, given_back, hashed, one, records, table, whole, write_lines, write_map


@pytest.fixture
def path(tmp_path):
    return write_map(tmp_path / "old" / "mesh_snapshot.bin", whole("m1"), whole("m2"), whole("m3", amplitude=-0.0))


def test_the_sample_gives_the_records_of_its_map():
    source = one(PHASE1 / "mesh_snapshot.bin", "ada")
    assert (source.kind, source.uid) == ("map", "ada")
    assert hashed(source.batches(progress=False)) == hashed(read_bincode(source.paths[0], progress=False))
    assert source.notes() == []


def test_a_map_becomes_generation_1_over_itself(path, tmp_path):
    before = path.read_bytes()
    root = built(one(path, "ada"), tmp_path / "store")
    assert current(root, "ada").generation == 1
    assert (root / "history" / "00000000.bin").read_bytes() == before == path.read_bytes()


def test_what_changed_since_comes_back_in_the_same_bytes_a_phase_1_program_would_write(path, tmp_path):
    source = one(path, "ada")
    root = built(source, tmp_path / "store")
    changed(root, {"Update": {"id": "m1", "amplitude": 0.75}}, {"Delete": "m2"}, {"Insert": whole("m4")})
    back, left = given_back(source, root, tmp_path / "back")
    assert left == []
    m1 = records(source)["m1"] | {"amplitude": 0.75}
    expected = [m1, whole("m3", amplitude=-0.0), whole("m4")]
    assert [path.name for path in back.paths] == ["mesh_snapshot.bin"]
    assert back.paths[0].read_bytes() == write_bincode(expected)
    assert list(records(back)) == ["m1", "m3", "m4"]


def test_what_a_map_cannot_hold_is_left_over(path, tmp_path):
    source = one(path, "ada")
    root = built(source, tmp_path / "store")
    write_lines(root / "wal-20250701.log", {"Insert": whole("misfit", amplitude="loud")})  # by another program
    changed(
        root,
        {"Insert": {"id": "bare", "amplitude": 0.5}},
        {"Insert": whole("more", theme="dark")},
        {"Insert": whole("odd", mode="Grey")},
        {"note": 1},
    )
    back, left = given_back(source, root, tmp_path / "back")
    assert sorted(records(back)) == ["m1", "m2", "m3", "more"]
    assert records(back)["more"] == whole("more")
    told = {one.id: (one.reason, one.json) for one in left}
    assert told["bare"] == ("not written: no concept_id is given", '{"id":"bare","amplitude":0.5}')
    assert told["more"] == ("written without theme, which a map has no place for", '{"theme":"dark"}')
    assert "Grey" in told["odd"][0] and '"mode":"Grey"' in told["odd"][1]
    assert "amplitude" in told["misfit"][0]
    assert left[-1] == LeftOver(left[-1].id, "an event that changes no memory", '{"note":1}')
    assert len(left) == 5


def test_floats_that_are_not_finite_are_kept_and_told(tmp_path):
    odd = whole("m1", amplitude=math.nan, frequency=math.inf)
    odd["comfort_metrics"] = odd["comfort_metrics"] | {"stress": -math.inf}
    source = one(write_map(tmp_path / "mesh_snapshot.bin", odd, whole("m2")), "ada")
    assert math.isnan(table(source)["amplitude"][0].as_py())
    (note,) = source.notes()
    assert note.startswith("floats that are not finite")
    assert note.endswith(": 3 (m1 amplitude NaN, m1 frequency Infinity, m1 comfort_metrics.stress -Infinity)")
    back, left = given_back(source, built(source, tmp_path / "store"), tmp_path / "back")
    assert left == []
    assert hashed(back.batches()) == hashed(source.batches())


def test_notes_name_twenty_cases_and_count_the_rest(tmp_path):
    odd = [whole(f"m{number}", amplitude=math.nan) for number in range(25)]
    (note,) = one(write_map(tmp_path / "mesh_snapshot.bin", *odd), "ada").notes()
    assert ": 25 (m0 amplitude" in note and "m19 amplitude NaN and 5 more)" in note


def test_an_empty_id_is_told(tmp_path):
    (note,) = one(write_map(tmp_path / "mesh_snapshot.bin", whole("")), "ada").notes()
    assert "empty id" in note


def lies():
    data = write_bincode([whole("m1"), whole("m2")])
    yield "cut", data[:-9], "byte"
    yield "cut in the count", data[:5], "byte 0"
    yield "bytes behind the end", data + b"\0", "1 more byte"
    yield "count too big", struct.pack("<Q", 1 << 40) + data[8:], "a count of"
    yield "count too small", struct.pack("<Q", 1) + data[8:], "more bytes"
    yield "key is not the id", data.replace(b"m1", b"m9", 1), "expected the key to be the id 'm1'"
    yield "an id twice", data.replace(b"m2", b"m1"), "'m1' again, the key of record 1"
    yield "no UTF-8", data.replace(b"m1", b"\xff1"), "UTF-8"


@pytest.mark.parametrize(("data", "told"), [pytest.param(*case, id=name) for name, *case in lies()])
def test_a_lying_map_is_refused_with_the_byte_offset(data, told, tmp_path):
    path = tmp_path / "mesh_snapshot.bin"
    path.write_bytes(data)
    found = find_sources(path, user="ada")
    if found.sources:
        with pytest.raises(SnapshotError, match=told) as caught:
            list(found.sources[0].batches(progress=False))
        assert f"{path}: byte " in caught.value.message
    else:
        (problem,) = found.problems
        assert problem.where == str(path) and told in problem.what and "byte" in problem.what


def test_a_map_that_became_a_link_is_not_followed(path, tmp_path):
    source = one(path, "ada")
    elsewhere = path.rename(tmp_path / "elsewhere")
    path.symlink_to(elsewhere)
    with pytest.raises(StorageError, match="found a symbolic link"):
        list(source.batches())


def test_a_map_that_has_gone_is_named(path):
    source = MapSource("ada", path.parent, (path.with_name("gone.bin"),))
    with pytest.raises(MeshlabError, match=r"gone\.bin"):
        source.notes()
