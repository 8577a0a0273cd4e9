"""A segment that is checked in parts: the very same verdict as in one go, whatever is wrong with it and where."""

from random import Random

import pytest

from meshlab.errors import DamageFound
from meshlab.remote import check
from meshlab.remote.bucket import MemoryBucket
from meshlab.wal.chain import ORIGIN
from meshlab.wal.reader import resolve
from scoreboard.sampling import EVERY
from scoreboard.sites import Site, insert

DAY = "20250707"
HURT = 60 if EVERY else 5


@pytest.fixture
def parts(monkeypatch):
    """Parts of 2 kB, three at a time; counts them and those that were read again."""
    monkeypatch.setattr(check, "PART", 2000)
    monkeypatch.setattr(check, "AT_ONCE", 3)
    seen = []
    inner = check._scan

    def counted(root, day, start, stop, cursor, line=1):
        seen.append((start, stop))
        return inner(root, day, start, stop, cursor, line)

    monkeypatch.setattr(check, "_scan", counted)
    return seen


def log_of(tmp_path, seed, name="log"):
    """A day of single events, batches, and lines by others; the bytes of its segment and where its lines begin."""
    random = Random(seed)
    site = Site(tmp_path / name, MemoryBucket())
    path = site.root / f"wal-{DAY}.log"
    for number in range(80):
        batch = random.choice([1, 1, 1, 2, 5])
        site.append(*[insert(f"m{number}-{one}", "x" * random.randrange(200)) for one in range(batch)])
        if random.random() < 0.1:
            with path.open("ab") as log:
                log.write(
                    random.choice([b'{"Delete":"m1"}\n', b"\n", b'{"timestamp":"2025-07-07T12:00:00Z","event":1}\n'])
                )
    return site, path, path.read_bytes()


def both(root, size):
    """What the parts say, and what one go says."""
    one = check.scan(root, DAY, 0, size, ORIGIN)
    other = check.scan_segment(root, DAY, ORIGIN, offset=0, stop=size)
    for _ in other:
        pass
    return one, (other.part, other.end)


def hurt(random, data):
    """The bytes with one thing wrong, of the kinds that a disk, a copy or a program without the lock makes."""
    lines = data.splitlines(keepends=True)
    at, row = random.randrange(len(data)), random.randrange(len(lines))
    kind = random.choice(["flip", "cut", "drop", "repeat", "swap", "nul", "glue", "rubbish"])
    if kind == "flip":
        return kind, data[:at] + bytes([data[at] ^ (1 << random.randrange(8))]) + data[at + 1 :]
    if kind == "cut":
        return kind, data[:at]
    if kind == "nul":
        return kind, data[:at] + bytes(len(data[at : at + 300])) + data[at + 300 :]
    if kind == "drop":
        del lines[row]
    elif kind == "repeat":
        lines.insert(row, lines[random.randrange(len(lines))])
    elif kind == "swap":
        other = random.randrange(len(lines))
        lines[row], lines[other] = lines[other], lines[row]
    elif kind == "glue":
        lines[row] = lines[row].rstrip(b"\n")
    else:
        lines.insert(row, b'{"a":1}TRAILER\n')
    return kind, b"".join(lines)


def test_a_sound_segment_is_read_once_in_parts(parts, tmp_path):
    site, _, data = log_of(tmp_path, 7)
    one, other = both(site.root, len(data))
    assert one == other
    assert not one[0].rejects
    assert len(parts) > 5
    assert sorted(parts)[0][0] == 0
    assert sum(stop - start for start, stop in parts) == len(data)


@pytest.mark.parametrize("seed", range(4))
def test_whatever_is_wrong_the_parts_say_what_one_go_says(parts, tmp_path, seed):
    random = Random(seed)
    site, path, data = log_of(tmp_path, seed)
    kinds, found = set(), 0
    for _ in range(HURT):
        kind, hurt_data = hurt(random, data)
        path.write_bytes(hurt_data)
        one, other = both(site.root, len(hurt_data))
        assert one == other, kind
        assert resolve([one[0]]) == resolve([other[0]])
        kinds.add(kind)
        found += bool(other[0].rejects)
    print(f"seed {seed}: {HURT} logs hurt, of {len(kinds)} kinds, {found} with findings")
    assert len(kinds) == 8 if EVERY else len(kinds) > 1
    assert found > HURT * 2 // 3


def test_a_line_that_claims_a_place_in_the_chain_is_not_believed(parts, tmp_path):
    """Its sum is wrong, its seq and sum are those the next part would begin from."""
    site, path, data = log_of(tmp_path, 3)
    ((at, claim), *_) = check._places(site.root, DAY, 0, len(data))
    begin = data.rfind(b"\n", 0, at - 1) + 1
    lie = data[:begin] + data[begin:at].replace(b"Insert", b"Insexx") + data[at:]
    path.write_bytes(lie)
    assert next(check._places(site.root, DAY, 0, len(lie))) == (at, claim)
    one, other = both(site.root, len(lie))
    assert one == other
    assert next(reject.kind for reject in one[0].rejects if reject.nbytes) in ("bad-sum", "not-json")


def test_damage_in_any_part_keeps_the_push_from_naming_it(parts, tmp_path):
    site, path, data = log_of(tmp_path, 5)
    for number, at in enumerate(range(100, len(data), 3000)):
        path.write_bytes(data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :])
        user = site.push()
        assert (user.status, user.kind) == ("failed", DamageFound.__name__), (number, at)
        assert f"wal-{DAY}.log:" in user.error
        assert not list(site.remote.bucket.list("images/"))
    path.write_bytes(data)
    assert site.push().status == "pushed"
