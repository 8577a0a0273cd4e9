"""Older layouts for the tests of their readers, and the way there and back."""

from __future__ import annotations

import gzip
import json
import shutil
from pathlib import Path

import pyarrow as pa

from meshlab.migrate.sources.folded import live_records
from meshlab.migrate.sources.source import find_sources
from meshlab.snapshot.bincode import write_bincode
from meshlab.snapshot.checkpoint import checkpoint
from meshlab.snapshot.hashing import state_hash
from meshlab.snapshot.state import json_forms
from meshlab.store import open as open_store
from meshlab.tables.schema import RECORD_SCHEMA
from meshlab.times import DAY, midnight
from meshlab.wal.files import REAL_FILES

SAMPLES = Path(__file__).parents[3] / "data" / "samples"
PHASE1 = SAMPLES / "phase1"
EXPECTED = json.loads((Path(__file__).parents[2] / "data" / "phase1-expected.json").read_text(encoding="utf-8"))
NOON = midnight("20250710") + DAY // 2
WHOLE = next(iter(next(iter(EXPECTED.values())).values()))
"""A record with all seventeen fields."""


def whole(id, **changes):
    return WHOLE | {"id": id} | changes


def write_map(path, *records):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(write_bincode(records))
    return path


def write_lines(path, *values):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(value) + "\n" for value in values), encoding="utf-8")
    return path


def entry(sequence, operation, data, *, time=None, checksum=None):
    """An entry of a scoped log as the older program wrote it."""
    moment = 1751875200.5 + 3600 * sequence if time is None else time
    return {"sequence": sequence, "timestamp": moment, "operation": operation, "data": data, "checksum": checksum}


def write_checkpoint(path, *entries):
    held = {"scope": "user", "scope_id": "ada", "sequence": 9, "timestamp": 1751875200.5, "entries": list(entries)}
    with (gzip.open if path.suffix == ".gz" else open)(path, "wt") as file:
        json.dump(held, file)
    return path


def one(path, user=None, **options):
    """The only source under a path; nothing is wrong with it."""
    found = find_sources(path, user=user, **options)
    assert found.problems == []
    (source,) = found.sources
    return source


def table(source):
    return pa.Table.from_batches(list(source.batches(progress=False)), RECORD_SCHEMA)


def records(source):
    """The JSON forms of a source's records by id."""
    return {record["id"]: record for record in json_forms(table(source))}


def hashed(batches):
    return state_hash(pa.Table.from_batches(list(batches), RECORD_SCHEMA)).hexdigest()


def built(source, store):
    """Build a user in a store from copies, and check that nothing was lost on the way; returns its directory."""
    store.mkdir(exist_ok=True)
    inputs = store.parent / f"inputs of {source.uid}"
    inputs.mkdir()
    copies = [Path(shutil.copy(path, inputs / path.name)) for path in source.paths]
    root = store / source.uid
    source.relocated(inputs, copies).build(root, copies, REAL_FILES, lambda: NOON)
    assert hashed(live_records(root, source.uid)) == hashed(source.batches(progress=False))
    return root


def changed(root, *events):
    """Append events to a user's log and fold them."""
    with open_store(root.parent) as store:
        store[root.name].append_many(list(events))
    checkpoint(root, root.name, progress=False, clock=lambda: NOON + DAY)


def given_back(source, root, folder):
    """What stands in the files given back, as a source, and what was left over."""
    folder.mkdir()
    left = source.give_back(root, folder, REAL_FILES)
    return source.relocated(folder, sorted(path for path in folder.iterdir())), left
