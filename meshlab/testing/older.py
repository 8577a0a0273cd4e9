"""Samples of older layouts: scoped logs and JSON exports, the same bytes every time."""

from __future__ import annotations

import json
import math
import zlib
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any

from meshlab.testing.traffic import Mix, Traffic
from meshlab.times import format_time, midnight

_BEGIN = midnight("20250707") / 1e6 + 8 * 3600
_STEP = 5400.25
"""Seconds between two entries."""

_CONCEPTS = ("sea", "salt", "harbour", "lamp", "winter", "letter", "garden", "bread", "bridge", "ψ-field")
_CATEGORIES = ("place", "thing", "feeling")
_KINDS = ("similar", "part_of", "reminds_of")


def build_scoped(folder: Path) -> None:
    """Two scoped logs: ``ada``, set aside twice and torn at its end, and ``bela``, that gives ids."""
    folder.mkdir(parents=True)
    ada = list(_named_entries(Random(1), 48))
    first, second, current = ada[:20], ada[20:36], ada[36:]
    (folder / f"ada.wal.{_second(first)}").write_bytes(_lines(first))
    (folder / f"ada.wal.{_second(second)}").write_bytes(_lines(second))
    (folder / "ada.checkpoint.gz").write_bytes(_stored_gzip(_checkpoint("ada", second)))
    (folder / "ada.wal").write_bytes(_lines(current) + b'{"sequence": 49, "timestamp": 17523')
    bela = list(_given_entries(16))
    (folder / "bela.checkpoint").write_bytes(_checkpoint("bela", bela[:4]))  # its log of then is lost
    (folder / "bela.wal").write_bytes(_lines(bela[4:]))


def build_exports(folder: Path) -> None:
    """A list of records and a map, and a file that is neither."""
    folder.mkdir(parents=True)
    ada = _records(seed=11, count=12)
    ada[3]["amplitude"] = math.nan
    ada[5]["theme"] = "dark"
    del ada[7]["comfort_metrics"]
    (folder / "ada.json").write_text(json.dumps(ada, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    bela = {record.pop("id"): record for record in _records(seed=12, count=10)}
    (folder / "bela.json").write_text(json.dumps(bela, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    settings = {"theme": "dark", "language": "en", "concepts": []}
    (folder / "settings.json").write_text(json.dumps(settings, indent=1) + "\n")


def _records(*, seed: int, count: int) -> list[dict[str, Any]]:
    traffic = Traffic(seed, Mix(recall=0.0, delete=0.0, seal=0.0), sentences=(1, 3))
    stamps = [format_time(round((_BEGIN + number * _STEP) * 1e6)) for number in range(count)]
    return [json.loads(traffic.event(stamp))["Insert"] for stamp in stamps]


def _named_entries(random: Random, count: int) -> Iterator[dict[str, Any]]:
    """What the program wrote: concepts known by their names, updates by ids that only it knew."""
    for sequence in range(1, count + 1):
        choice, name = random.randrange(10), _CONCEPTS[random.randrange(len(_CONCEPTS))]
        if sequence == 7:
            yield _entry(sequence, "update_concept", {"concept_id": "concept_41", "updates": {"importance": 0.9}})
        elif choice < 5:
            yield _entry(sequence, "add_concept", _concept(name, random))
        elif choice < 7:
            updates = {"importance": random.randrange(1, 100) / 100, "description": f"{name}, seen again"}
            yield _entry(sequence, "update_concept", {"concept_id": name, "updates": updates})
        elif choice == 7:
            yield _entry(sequence, "remove_concept", {"concept_id": name})
        else:
            other = _CONCEPTS[random.randrange(len(_CONCEPTS))]
            relation = {"source": name, "target": other, "type": _KINDS[random.randrange(3)], "strength": 0.5}
            yield _entry(sequence, "add_relation" if choice == 8 else "remove_relation", relation)


def _given_entries(count: int) -> Iterator[dict[str, Any]]:
    """Concepts with ids; the embedding of one has a number that is none."""
    for number in range(1, count + 1):
        concept = {"id": f"c{number}", "name": f"concept {number}", "description": f"the {number}th", "metadata": {}}
        embedding = [0.25, math.nan if number == 9 else 0.5]
        yield _entry(number, "add_concept", concept | {"embedding": embedding})


def _concept(name: str, random: Random) -> dict[str, Any]:
    return {
        "name": name,
        "description": f"what {name} is like",
        "category": _CATEGORIES[random.randrange(3)],
        "importance": random.randrange(1, 100) / 100,
        "embedding": None,
        "metadata": {"from": "chat"},
    }


def _entry(sequence: int, operation: str, data: dict[str, Any]) -> dict[str, Any]:
    moment = _BEGIN + sequence * _STEP
    return {"sequence": sequence, "timestamp": moment, "operation": operation, "data": data, "checksum": None}


def _second(entries: list[dict[str, Any]]) -> int:
    """When a file was set aside: the second after its last entry."""
    return int(entries[-1]["timestamp"]) + 1


def _lines(entries: list[dict[str, Any]]) -> bytes:
    return "".join(json.dumps(entry) + "\n" for entry in entries).encode()


def _checkpoint(id: str, entries: list[dict[str, Any]]) -> bytes:
    last = entries[-1]
    head = {"scope": "user", "scope_id": id, "sequence": last["sequence"], "timestamp": last["timestamp"] + 1}
    return json.dumps(head | {"entries": entries}).encode()


def _stored_gzip(data: bytes) -> bytes:
    """A gzip file of one block that is stored as it is: no two compressors agree on any other bytes."""
    size = len(data).to_bytes(2, "little")
    block = b"\x01" + size + bytes(byte ^ 0xFF for byte in size) + data
    ending = zlib.crc32(data).to_bytes(4, "little") + len(data).to_bytes(4, "little")
    return b"\x1f\x8b\x08\0\0\0\0\0\0\xff" + block + ending
