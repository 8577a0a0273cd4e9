"""What one user does all day: remember, recall, seal, forget.

Everything is drawn from ``random.Random`` and numpy's frozen ``RandomState``, and no
transcendental function touches a drawn number, so a seed gives the same bytes on
every machine.  Recalls and new memories follow the formulas of docs/format.md.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator
from itertools import product
from random import Random
from typing import Any, NamedTuple

import msgspec
import numpy as np

from meshlab.records import CONTENT_TYPES, MODES, VAULT_STATUSES
from meshlab.times import DAY, SECOND, midnight


class Mix(NamedTuple):
    """Shares of the events; what is left of 1 are inserts."""

    recall: float = 0.60
    delete: float = 0.06
    seal: float = 0.04


class _Memory:
    __slots__ = ("access_count", "amplitude", "id", "stability")

    def __init__(self, id: str, amplitude: float) -> None:
        self.id = id
        self.amplitude = amplitude
        self.stability = 0.8
        self.access_count = 0


class Traffic:
    """One user's events in order, as the compact JSON the log holds.

    Popular memories are recalled far more often than others, roughly by Zipf's law.
    A few recalls come too late, for a memory just deleted: these are orphans.
    ``sentences`` is how many make up a content, at least and at most.

    >>> traffic = Traffic(seed=7, mix=Mix())
    >>> traffic.event("2025-07-01T08:00:00.000000Z")[:10]
    b'{"Insert":'
    """

    def __init__(self, seed: int, mix: Mix, *, sentences: tuple[int, int] = (3, 8), late_share: float = 0.004) -> None:
        self.mix = mix
        self.counts = {"insert": 0, "recall": 0, "seal": 0, "delete": 0}
        self._random = Random(seed)
        self._draw = self._random.random
        self._sentences = sentences
        self._late_share = late_share
        self._live: list[_Memory] = []
        self._gone: _Memory | None = None
        self._contents: list[tuple[str, int]] = []
        self._seal_from = mix.recall + mix.delete
        self._insert_from = self._seal_from + mix.seal

    def event(self, stamp: str) -> bytes:
        """The next event, at a moment in the form of ``format_time``."""
        choice = self._draw()
        if choice >= self._insert_from or not self._live:
            return self._insert(stamp)
        if choice < self.mix.recall:
            return self._recall(stamp)
        return self._delete() if choice < self._seal_from else self._seal()

    def _recall(self, stamp: str) -> bytes:
        memory = self._popular()
        memory.amplitude = min(1.01 * memory.amplitude, 2.0)
        memory.stability = min(1.005 * memory.stability, 1.0)
        memory.access_count += 1
        self.counts["recall"] += 1
        return (
            f'{{"Update":{{"id":"{memory.id}","amplitude":{memory.amplitude!r},"stability":{memory.stability!r},'
            f'"last_accessed":"{stamp}","access_count":{memory.access_count}}}}}'
        ).encode()

    def _insert(self, stamp: str) -> bytes:
        content, length = self._content()
        concept = _CONCEPTS[self._index(len(_CONCEPTS))]
        memory = _Memory(_uuid(self._random.getrandbits(128)), math.sqrt(self._cents(5, 100)))
        self._live.append(memory)
        self.counts["insert"] += 1
        return (
            f'{{"Insert":{{"id":"{memory.id}",{concept},"amplitude":{memory.amplitude!r},"frequency":1.0,'
            f'"width":{1.0 / math.sqrt(length)!r},"position":{self._draw() * 100.0!r},"stability":0.8,'
            f'"creation_time":"{stamp}","last_accessed":"{stamp}","access_count":0,"content":"{content}",'
            f'"content_type":"{CONTENT_TYPES[self._index(5)]}","emotional_signature":{{{self._feeling()}}},'
            f'"vault_status":"Active","mode":"{MODES[self._index(9) // 8]}",'
            '"comfort_metrics":{"energy":1.0,"stress":0.0,"flux":0.0,"perturbation":0.0}}}'
        ).encode()

    def _seal(self) -> bytes:
        status = VAULT_STATUSES[self._index(len(VAULT_STATUSES))]
        self.counts["seal"] += 1
        return f'{{"Update":{{"id":"{self._popular().id}","vault_status":"{status}"}}}}'.encode()

    def _delete(self) -> bytes:
        place = len(self._live) - 1 - self._skewed()
        self._gone = self._live[place]
        self._live[place] = self._live[-1]
        self._live.pop()
        self.counts["delete"] += 1
        return f'{{"Delete":"{self._gone.id}"}}'.encode()

    def _popular(self) -> _Memory:
        if self._gone is not None and self._draw() < self._late_share:
            return self._gone
        return self._live[self._skewed()]

    def _skewed(self) -> int:
        """A place in the list of live memories; the cube of a uniform draw is close to Zipf."""
        draw = self._draw()
        return int(len(self._live) * (draw * draw * draw))

    def _index(self, count: int) -> int:
        return int(self._draw() * count)

    def _cents(self, low: int, high: int) -> float:
        return (low + self._index(high - low + 1)) / 100

    def _content(self) -> tuple[str, int]:
        """The escaped text and its length in characters; one in twelve is an old one again."""
        if self._contents and self._draw() < 1 / 12:
            return self._contents[self._index(len(self._contents))]
        low, high = self._sentences
        chosen = [_SENTENCES[self._index(len(_SENTENCES))] for _ in range(low + self._index(high - low + 1))]
        made = " ".join([text for text, _ in chosen]), sum([length for _, length in chosen]) + len(chosen) - 1
        if len(self._contents) < 200:
            self._contents.append(made)
        else:
            self._contents[self._index(200)] = made
        return made

    def _feeling(self) -> str:
        marks = '"trauma_indicators":["loss"]' if self._draw() < 0.03 else '"trauma_indicators":[]'
        valence, arousal, dominance = self._cents(-100, 100), self._cents(0, 100), self._cents(0, 100)
        return f'"valence":{valence!r},"arousal":{arousal!r},"dominance":{dominance!r},{marks}'


def moments(count: int, first_day: str, days: int, seed: int) -> Any:
    """``count`` moments (int64, µs since 1970, sorted) with nights, evenings and weekends.

    >>> spread = moments(1000, "20250701", 2, seed=1)
    >>> bool(spread[0] >= midnight("20250701")), bool(spread[-1] < midnight("20250703"))
    (True, True)
    """
    random = np.random.RandomState(seed % (1 << 32))
    start = midnight(first_day)
    shift = int(random.random_sample() * 8)
    hours = np.roll(np.array(_HOURS), shift)
    weekdays = [_WEEKDAYS[(start // DAY + 3 + day) % 7] for day in range(days)]
    ends = np.cumsum(np.concatenate([hours * weight for weight in weekdays]))
    cell = np.searchsorted(ends, random.random_sample(count) * float(ends[-1]), side="right")
    within = (random.random_sample(count) * 3600.0 * SECOND).astype(np.int64)
    found: Any = np.sort(start + np.minimum(cell, len(ends) - 1) * (3600 * SECOND) + within)
    return found


def stamps(times: Any) -> Iterator[str]:
    """The moments in the form of ``format_time``, vectorised.

    >>> list(stamps(np.array([1751875200137000])))
    ['2025-07-07T08:00:00.137000Z']
    """
    for start in range(0, len(times), 1 << 16):
        for text in np.datetime_as_string(times[start : start + (1 << 16)].astype("M8[us]")).tolist():
            yield text + "Z"


def _uuid(bits: int) -> str:
    text = f"{bits:032x}"
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"


def phase_of(concept_id: str) -> float:
    """``phase_tag`` of a new memory: the concept's MD5 as an angle in radians.

    >>> 0 <= phase_of("concept:lattice") <= 2 * math.pi
    True
    """
    first = hashlib.md5(concept_id.encode(), usedforsecurity=False).digest()[:4]
    return 2 * math.pi * int.from_bytes(first, "big") / ((1 << 32) - 1)


def _escaped(text: str) -> str:
    return msgspec.json.encode(text)[1:-1].decode()


# Activity by the hour (UTC, before the user's own shift) and by the weekday from Monday.
_HOURS = (2, 1, 1, 1, 1, 2, 5, 10, 16, 20, 21, 18, 13, 15, 18, 17, 15, 13, 14, 18, 20, 16, 9, 4)
_WEEKDAYS = (1.0, 1.05, 1.0, 0.95, 0.85, 0.5, 0.4)

_SUBJECTS = (
    "the lattice",
    "a quiet note",
    "this morning's walk",
    "the old notebook",
    "her letter",
    "the third draft",
    "our garden plan",
    "the café on the corner",
    "Großmutter's recipe",
    "the ψ-field",
    "a photograph of the sea",
)
_VERBS = ("reminds me of", "was filed under", "does not agree with", "came up again beside", "explains")
_OBJECTS = (
    'what "resonance" meant to us',
    "column A\tcolumn B\tcolumn C",
    "the train to Zürich",
    "an unanswered question",
    "the summer of 2019 ☀️",
    "東京の雨",
    "a line break\nin the middle",
    "the path C:\\notes\\today",
    "nothing in particular",
    "a smile 🙂 and a shrug 🤷🏽‍♀️",
    "שלום and مرحبا",
    "the budget (±3 %)",
)
_SENTENCES = tuple(
    (_escaped(text), len(text)) for text in (f"{' '.join(words)}." for words in product(_SUBJECTS, _VERBS, _OBJECTS))
)
_CONCEPTS = tuple(
    f'"concept_id":"{concept}","phase_tag":{phase_of(concept)!r}'
    for concept in (f"concept:{number}" for number in range(200))
)
