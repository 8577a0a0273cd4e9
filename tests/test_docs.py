"""The documents do not drift: their examples, numbers, names and links are those of the code."""

import re
import tomllib
from fnmatch import fnmatch
from pathlib import Path
from pkgutil import resolve_name

import pytest

from meshlab.jsontext import MAX_DEPTH
from meshlab.records import FIELDS
from meshlab.tables.schema import EVENT_SCHEMA
from meshlab.wal.chain import ORIGIN
from meshlab.wal.frame import MAX_FRAME, MAX_KEY, MAX_SEQ_DIGITS, NO_SUM, SUM_ENDING, frame_sum, read_frame
from meshlab.wal.lines import DIALECTS
from meshlab.wal.reader import resolve, scan_segment
from tests.test_layers import RANK

REPOSITORY = Path(__file__).resolve().parents[1]
FORMAT = (REPOSITORY / "docs" / "format.md").read_text(encoding="utf-8")
PAGES = sorted([*REPOSITORY.glob("[A-Z]*.md"), *(REPOSITORY / "docs").glob("*.md")])
ARCHITECTURE = (REPOSITORY / "docs" / "architecture.md").read_text(encoding="utf-8")
PROJECT = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def fenced(text, language):
    """The bodies of the code blocks in one language."""
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


def section(title):
    return FORMAT.split(f"\n## {title}\n")[1].split("\n## ")[0]


@pytest.fixture
def example():
    (block,) = fenced(FORMAT, "wal")
    return block.encode()


@pytest.fixture
def frames(example):
    lines = example.splitlines(keepends=True)
    return lines[0], b"".join(lines[1:])


def ranges():
    """(start, stop, text) of every row of the byte table."""
    rows = re.findall(r"^\| (\d+) \| (\d+) \| (.*) \|$", section("An example, byte by byte"), re.MULTILINE)
    assert len(rows) > 10
    return [(int(start), int(stop), text) for start, stop, text in rows]


def test_the_frames_of_the_example_hold_and_are_chained(frames):
    first, second = (read_frame(frame) for frame in frames)
    assert (first.seq, first.n, first.prev) == (1, 1, NO_SUM)
    assert (second.seq, second.n, second.prev) == (3, 2, first.sum)


def test_the_sum_covers_the_bytes_the_text_names(example, frames):
    text = section("An example, byte by byte")
    start, stop, inner = map(int, re.search(r"from (\d+) up to (\d+), the newline at (\d+)", text).groups())
    assert frame_sum(example[start:stop]) == read_frame(frames[1]).sum
    assert start < inner < stop
    assert example[inner : inner + 1] == b"\n"


def test_the_byte_table_names_the_bytes_of_the_example(example):
    for start, stop, text in ranges():
        for quoted in re.findall(r"`([^`]+)`", text):
            if quoted[0] in '{,"}':
                assert quoted.encode() in example[start:stop]
        if text.startswith(("`,", "the event", "`}`")):
            assert example[start:stop].rstrip(b"\n").decode() in text
    assert f"{len(example)} bytes" in section("An example, byte by byte")


def test_the_sum_ending_has_the_length_the_text_gives(example):
    ((start, stop),) = [(start, stop) for start, stop, text in ranges() if "sum ending" in text]
    assert stop - start == SUM_ENDING == 26
    assert example[stop:] == b"\n"


def test_a_reader_finds_the_example_as_it_is_told(tmp_path, example):
    (tmp_path / "wal-20250707.log").write_bytes(example)
    scan = scan_segment(tmp_path, "20250707", ORIGIN)
    (block,) = scan
    assert block.seq.tolist() == [1, 2, 3]
    assert resolve([scan.part]) == []
    lsns = [f"{block.segment}:{offset}" for offset in (block.base + block.start).tolist()]
    assert re.findall(r"LSN `([\d:]+)`", FORMAT) == lsns[1:]
    events = [(start, stop) for start, stop, text in ranges() if text.startswith("the event")]
    assert list(zip(block.event_start.tolist(), block.event_stop.tolist(), strict=True))[1:] == events
    key = slice(int(block.key_start[1]), int(block.key_stop[1]))
    assert example[key] == b"visit-7"


def test_any_bit_flipped_in_the_example_breaks_its_frame(frames):
    _, frame = frames
    for position in range(len(frame) - 1):
        flipped = bytearray(frame)
        flipped[position] ^= 1 << position % 8
        assert read_frame(bytes(flipped)) is None


def test_the_limits_are_those_of_the_code():
    limits = section("Known limits")
    assert f"{MAX_FRAME >> 20} MiB" in limits
    assert f"at most {MAX_SEQ_DIGITS} digits" in limits
    assert f"{MAX_DEPTH} levels" in limits
    assert f"1 to {MAX_KEY} *" in FORMAT


def test_every_class_of_reject_is_described_and_none_is_invented():
    described = set(re.findall(r"^\| `([\w-]+)` \|", section("What is no event"), re.MULTILINE))
    wal = "".join(path.read_text(encoding="utf-8") for path in (REPOSITORY / "meshlab" / "wal").glob("*.py"))
    kinds = r'"(torn|bad-sum|nul-run|too-long|fused|chain-gap|duplicate-frame|not-[a-z0-9]+)"'
    assert set(re.findall(kinds, wal)) == described


def test_the_dialects_and_columns_are_those_of_the_code():
    dialects = re.findall(r"^\| `(\w+)` \|", FORMAT.split("\n## ")[0], re.MULTILINE)
    assert tuple(dialects) == DIALECTS
    listed = section("Columns").split("\n\n")[1]
    names = re.findall(r"`(\w+)`|(the seventeen fields)", listed)
    columns = [column for name, fields in names for column in (FIELDS if fields else (name,))]
    assert columns == EVENT_SCHEMA.names


def test_the_fields_are_listed_in_their_order():
    told = re.search(r"The fields in order: (.*?)\. Only", FORMAT, re.DOTALL)[1]
    assert tuple(re.findall(r"`(\w+)`", re.sub(r"\(`.*?\)", "", told))) == FIELDS


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_leads_to_a_file_and_a_heading(page):
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text(encoding="utf-8")):
        if target.startswith(("http:", "https:")):
            continue
        name, _, anchor = target.partition("#")
        path = (page.parent / name).resolve() if name else page
        assert path.exists(), f"{page.name} links to {target}"
        if anchor:
            titles = re.findall(r"^#+ (.*)$", path.read_text(encoding="utf-8"), re.MULTILINE)
            assert anchor in [re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles]


def distributions(wanted):
    return [re.split(r"[><=\[]", one)[0] for one in wanted]


def test_the_architecture_says_what_every_dependency_is_for():
    reasons = ARCHITECTURE.split("## What each dependency is for")[1].split("\n## ")[0]
    core = re.findall(r"^\| (\w+) \| .", reasons, re.MULTILINE)
    assert sorted(set(core) - {"package", "extra"}) == sorted(distributions(PROJECT["dependencies"]))
    told = re.findall(r"^\| `(\w+)` \| ([\w-]+) \| .", reasons, re.MULTILINE)
    extras = PROJECT["optional-dependencies"]
    assert told == [(extra, name) for extra in extras for name in distributions(extras[extra]) if name != "meshlab"]


def test_the_picture_of_the_house_names_every_layer_each_above_those_it_imports():
    picture = ARCHITECTURE.split("```text\n")[1].split("```")[0]
    parts = {path.stem for path in (REPOSITORY / "meshlab").iterdir() if path.stem[0] not in "_." and path.stem != "py"}
    assert [name for name in parts if not re.search(rf"\b{name}\b", picture)] == []
    heads = [name for name in re.findall(r"^ *(\w+)", picture, re.MULTILINE) if name in RANK]
    assert heads == sorted(heads, key=RANK.__getitem__, reverse=True)


def test_the_architecture_tells_every_folder_of_the_repository():
    ignored = [line.strip("/") for line in (REPOSITORY / ".gitignore").read_text(encoding="utf-8").splitlines()]
    names = [path.name for path in REPOSITORY.iterdir() if path.is_dir() and path.name[0] != "."]
    folders = [name for name in names if not any(fnmatch(name, pattern) for pattern in [*ignored, "meshlab"])]
    house = ARCHITECTURE.split("## The house")[1].split("\n## ")[0]
    assert [name for name in folders if f"`{name}/`" not in house] == []


def test_every_file_the_documents_name_is_there():
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        for name in re.findall(r"`((?:tests|meshlab|docs|notebooks|data)/[\w./-]*\w)/?`", text):
            assert (REPOSITORY / name).exists(), f"{page.name} names {name}"
        for module in re.findall(r"`(meshlab(?:\.\w+)+)`", text):
            assert resolve_name(module.replace(".open", ".store.open"))
