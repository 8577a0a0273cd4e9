"""The samples in git are what the builder makes, and the reader finds what the builder did."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from pathlib import Path

import pytest

from meshlab.errors import NotFound
from meshlab.testing.samples import DISASTERS, UID, build_disaster, build_samples
from meshlab.wal.paths import segment_days
from meshlab.wal.reader import ORIGIN, resolve, scan_segment

SAMPLES = Path(__file__).parents[2] / "data" / "samples"
BIG = {name for name, disaster in DISASTERS.items() if disaster.big}
LEFT_BY_USE = {"sealed", "wal.lock", ".meshlab", ".DS_Store"}
KEPT = {
    "gateway": "4000bf304880089c20be9d5969e66a15175c582d0ad40feff8c36ede2de3e3f4",
    "phase1": "e182d7616df5265e703c28f249848da813af771adac3b4992e4b6b0cb89d1d77",
}


def files_of(root):
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()}


def committed():
    """The built samples in the tree, without caches and locks that somebody's work there may have left."""
    return {
        name: data
        for name, data in files_of(SAMPLES).items()
        if name.split("/")[0] not in KEPT
        and not BIG.intersection(name.split("/"))
        and not LEFT_BY_USE.intersection(name.split("/"))
    }


def read(root):
    """Events and final rejects of a user's whole log."""
    end, parts, events = ORIGIN, [], 0
    for day in segment_days(root):
        scan = scan_segment(root, day, end)
        events += sum(len(block.start) for block in scan)
        end = scan.end
        parts.append(scan.part)
    return events, resolve(parts)


def test_building_again_gives_the_committed_bytes(tmp_path):
    built = files_of(build_samples(tmp_path, big=False))
    assert sorted(built) == sorted(committed())
    assert [name for name, data in built.items() if data != committed()[name]] == []


@pytest.mark.parametrize("folder", sorted(KEPT))
def test_the_bytes_of_older_programs_are_untouched(folder):
    total = hashlib.sha256()
    for name, data in files_of(SAMPLES / folder).items():
        if LEFT_BY_USE.intersection(name.split("/")):
            continue
        total.update(f"{name} {hashlib.sha256(data).hexdigest()}\n".encode())
    assert total.hexdigest() == KEPT[folder]


def test_no_committed_sample_is_large():
    sizes = {name: len(data) for name, data in committed().items()}
    assert max(sizes.values()) < 500_000
    assert sum(sizes.values()) < 2_000_000


def test_disasters_too_big_for_git_are_ignored():
    ignored = (SAMPLES / "damaged" / ".gitignore").read_text().split()
    assert ignored == [f"/{name}/" for name in BIG]


def test_the_readme_names_every_disaster():
    readme = (SAMPLES / "README.md").read_text(encoding="utf-8")
    assert [name for name in DISASTERS if f"| `{name}` |" not in readme] == []


@pytest.mark.parametrize("name", DISASTERS)
def test_the_reader_finds_the_truth(name, tmp_path):
    truth = build_disaster(name, tmp_path)
    assert json.loads((tmp_path / "truth.json").read_text()) == truth._asdict()
    events, rejects = read(tmp_path / UID)
    assert events == truth.readable
    assert Counter(reject.kind for reject in rejects if reject.nbytes) == truth.rejects
    assert Counter(reject.kind for reject in rejects if not reject.nbytes) == truth.findings


@pytest.mark.parametrize("seed", range(2, 6))
@pytest.mark.parametrize("name", sorted(set(DISASTERS) - BIG))
def test_the_truth_holds_for_other_seeds(name, seed, tmp_path):
    truth = build_disaster(name, tmp_path, seed=seed)
    events, rejects = read(tmp_path / UID)
    found = Counter(reject.kind for reject in rejects if reject.nbytes)
    assert (events, found) == (truth.readable, truth.rejects)


def test_the_sample_store_has_no_rejects():
    for root in sorted((SAMPLES / "store").iterdir()):
        events, rejects = read(root)
        assert events > 100
        assert rejects == []


def test_the_long_line_is_an_event_of_five_megabytes(tmp_path):
    build_disaster("long-line", tmp_path)
    lengths = [len(line) for line in (tmp_path / UID / "wal-20250703.log").read_bytes().splitlines()]
    assert sum(length > 4_900_000 for length in lengths) == 2


def test_an_unknown_disaster_is_refused(tmp_path):
    with pytest.raises(NotFound, match="torn-tail"):
        build_disaster("meteor", tmp_path)
