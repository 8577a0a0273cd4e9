"""Manifests: what is written is read, and what cannot be trusted is refused by name."""

from __future__ import annotations

import hashlib
import shutil
import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from meshlab.errors import SnapshotError
from meshlab.replay import replay
from meshlab.snapshot.bincode import write_bincode
from meshlab.snapshot.manifest import (
    RECORDS,
    VERSION,
    Accepted,
    Layer,
    Manifest,
    Range,
    Retired,
    check_range,
    current,
    history,
    history_path,
    layer_path,
    pack,
    unpack,
)
from scoreboard.stories import LONG, Shop, insert

NUMBERS = st.integers(-(1 << 62), 1 << 62)
DAYS = st.sampled_from(["20250701", "20250702"])
NAMES = st.binary(min_size=32, max_size=32).map(bytes.hex)
MANIFESTS = st.builds(
    Manifest,
    uid=st.sampled_from(["u", "a.b-c"]),
    generation=st.integers(0, 1 << 40),
    parent=st.text(max_size=64),
    folded=st.lists(st.builds(Range, DAYS, NUMBERS, NUMBERS, st.binary(max_size=16), *[NUMBERS] * 4)),
    retired=st.lists(st.builds(Retired, DAYS, NUMBERS, NUMBERS, st.binary(), st.binary(), NUMBERS)),
    seq=NUMBERS,
    sum=st.binary(max_size=16),
    effective=NUMBERS,
    layers=st.lists(st.builds(Layer, NAMES, st.sampled_from(["records", "contents"]), NUMBERS, NUMBERS)),
    last_orphans=st.lists(st.dictionaries(st.text(), st.integers(0, 9) | st.text() | st.none())),
    accepted=st.lists(st.builds(Accepted, DAYS, NUMBERS, NUMBERS, st.text(), st.text())),
)


@pytest.fixture
def shop(tmp_path):
    """Two checkpoints, and something behind them."""
    shop = Shop(tmp_path / "mesh" / "u")
    for number in range(3):
        shop.append(insert(f"m{number}", f"{LONG}{number}"))
        if number < 2:
            shop.checkpoint()
    shop.close()
    return shop


def refused(shop, *words):
    """The snapshot stops readers and checkpoints with an error that says these words; the log goes on as it was."""
    log = shop.segment().read_bytes()
    messages = []
    for act in (lambda: replay(shop.root, "u", progress=False), shop.checkpoint):
        with pytest.raises(SnapshotError) as caught:
            act()
        messages.append(caught.value.message)
        assert all(word in caught.value.message for word in words), caught.value.message
        assert caught.value.hint
    assert shop.segment().read_bytes() == log
    shop.append(insert("still"))
    shop.close()
    assert shop.segment().read_bytes().startswith(log)
    return messages


@settings(max_examples=40)
@given(MANIFESTS)
def test_what_is_packed_is_unpacked(manifest):
    assert unpack(pack(manifest)) == manifest


def test_folded_ends_are_those_of_the_last_range_of_each_segment():
    folded = [Range("a", 0, 10, b"", 1, 0), Range("b", 0, 5, b"", 1, 0), Range("a", 10, 30, b"", 2, 0)]
    assert Manifest(uid="u", folded=folded).folded_ends == {"a": 30, "b": 5}


def test_every_manifest_names_the_one_before(shop):
    (first, second) = [entry.manifest for entry in history(shop.root, "u")]
    assert (first.generation, second.generation, shop.manifest.generation) == (0, 1, 2)
    files = [hashlib.sha256(history_path(shop.root, generation).read_bytes()) for generation in (0, 1)]
    assert [second.parent, shop.manifest.parent] == [file.hexdigest() for file in files]


# Bytes that cannot be trusted


def test_a_manifest_cut_at_any_length_is_refused(shop):
    path = shop.root / "snapshot.bin"
    data = path.read_bytes()
    for length in range(len(data)):
        path.write_bytes(data[:length])
        with pytest.raises(SnapshotError, match=r"snapshot.bin: expected .* found"):
            current(shop.root, "u")
    path.write_bytes(data[:-7])
    refused(shop, f"{path}: expected {len(data)} bytes in all, found {len(data) - 7}")


def test_no_flipped_bit_in_a_manifest_goes_unnoticed(shop):
    path = shop.root / "snapshot.bin"
    data = path.read_bytes()
    for place in range(len(data)):
        for bit in range(8) if place < 24 else (place % 8,):
            path.write_bytes(data[:place] + bytes([data[place] ^ 1 << bit]) + data[place + 1 :])
            with pytest.raises(SnapshotError, match=r"snapshot\.bin: "):
                current(shop.root, "u")
    flipped = bytearray(data)
    flipped[100] ^= 4
    path.write_bytes(flipped)
    refused(shop, str(path), f"the checksum at offset {len(data) - 32} does not hold")


def test_bytes_behind_a_manifest_are_refused(shop):
    path = shop.root / "snapshot.bin"
    path.write_bytes(path.read_bytes() + b"\0")
    refused(shop, "cut or was added to")


def test_a_manifest_of_a_newer_version_is_refused_and_says_which_is_read(shop):
    path = shop.root / "snapshot.bin"
    data = bytearray(path.read_bytes())
    struct.pack_into("<I", data, 8, VERSION + 1)
    path.write_bytes(data)
    refused(shop, str(path), f"version {VERSION + 1}", f"reads {VERSION} and older")


def test_a_manifest_with_a_lying_length_is_refused(shop):
    path = shop.root / "snapshot.bin"
    data = bytearray(path.read_bytes())
    struct.pack_into("<Q", data, 12, 1 << 62)
    path.write_bytes(data)
    refused(shop, str(path), f"expected {(1 << 62) + 20 + 32} bytes", f"found {len(data)}")


@pytest.mark.parametrize("body", [b"\x00", b"\x80", b"\x81\xa3uid\x05", b"\x81\xa3uid\xa1\xff", b"\xc1"])
def test_a_body_that_is_no_manifest_is_refused_though_its_checksum_holds(shop, body):
    data = struct.pack("<8sIQ", b"MESHSNAP", VERSION, len(body)) + body
    (shop.root / "snapshot.bin").write_bytes(data + hashlib.sha256(data).digest())
    refused(shop, "the manifest at offset 20 cannot be read")


def test_a_manifest_of_another_user_is_refused(shop, tmp_path):
    other = Shop(tmp_path / "mesh" / "v")
    shutil.copytree(shop.root, other.root)
    with pytest.raises(SnapshotError, match="expected the snapshot of user 'v', found that of 'u'"):
        current(other.root, "v")


def test_a_phase_1_map_put_over_a_manifest_is_refused(shop):
    path = shop.root / "snapshot.bin"
    path.write_bytes(write_bincode([]))
    refused(shop, f"{path}: expected MESHSNAP", "a phase-1 program is still writing here")


def test_a_manifest_that_vanished_is_no_empty_state(shop):
    (shop.root / "snapshot.bin").unlink()
    refused(shop, "expected snapshot.bin", "found none")
    shutil.rmtree(shop.root / "history")
    refused(shop, "beside the files in layers/", "found none")


def test_temporary_files_alone_are_no_sign_of_a_lost_manifest(tmp_path):
    shop = Shop(tmp_path / "mesh" / "u")
    shop.append(insert("m1"))
    (shop.root / "layers").mkdir()
    (shop.root / "layers" / ".1-1.tmp").write_bytes(b"half")
    assert current(shop.root, "u") is None


# Layers that are not there


def a_layer(shop):
    return layer_path(shop.root, shop.manifest.of_kind(RECORDS)[0])


def test_a_missing_layer_is_named(shop):
    path = a_layer(shop)
    path.unlink()
    assert str(path) in refused(shop, path.name, "missing")[0]


def test_a_shortened_layer_is_named_with_its_sizes(shop):
    path = a_layer(shop)
    size = path.stat().st_size
    path.write_bytes(path.read_bytes()[:-1])
    refused(shop, str(path), f"expected {size} bytes, found {size - 1}")


def test_no_flipped_bit_in_a_layer_goes_unnoticed(shop):
    for layer in shop.manifest.layers:
        path = layer_path(shop.root, layer)
        good = path.read_bytes()
        for place in range(0, len(good), 1 + len(good) // 7):
            path.write_bytes(good[:place] + bytes([good[place] ^ 1 << place % 8]) + good[place + 1 :])
            refused(shop, str(path), "its bytes are not those its name stands for")
        path.write_bytes(good)


# History


def test_history_tells_which_of_its_files_cannot_be_used(shop):
    good = history_path(shop.root, 1).read_bytes()
    history_path(shop.root, 1).unlink()
    history_path(shop.root, 1).write_bytes(good[:50])
    history_path(shop.root, 7).write_bytes(good)
    (shop.root / "history" / "notes.txt").write_text("not ours")
    entries = history(shop.root, "u")
    assert [entry.generation for entry in entries] == [0, 1, 7]
    assert [bool(entry.problem) for entry in entries] == [False, True, True]
    assert "found 50" in entries[1].problem and "holds generation 1" in entries[2].problem
    assert len(shop.records()) == 3, "the state of now does not need them"


# Ranges


def test_a_range_is_what_was_folded_or_says_why_not(shop):
    (piece,) = shop.manifest.folded
    path = shop.segment()
    assert check_range(shop.root, piece) == ""
    data = path.read_bytes()
    path.write_bytes(data[: piece.stop - 1])
    assert check_range(shop.root, piece) == f"wal-20250707.log has {piece.stop - 1} bytes; {piece.stop} were folded"
    path.write_bytes(b"x" * len(data))
    assert check_range(shop.root, piece).startswith("wal-20250707.log differs before offset")
    path.unlink()
    assert check_range(shop.root, piece) == "wal-20250707.log is missing"
    path.symlink_to("elsewhere")
    assert check_range(shop.root, piece).startswith("wal-20250707.log cannot be read")
