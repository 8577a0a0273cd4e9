"""Hypothesis strategies for memories and events, with the values that hurt.

Everything drawn here may be appended: floats are finite (with -0.0, subnormals and
the largest), text is valid Unicode, unknown fields hold any JSON value.

    @given(st.lists(strategies.events()))
    def test_what_is_appended_is_read(events): ...
"""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from meshlab.events import Delete, Insert, MeshEvent, Other, SolitonMemory, Update
from meshlab.records import CONTENT_TYPES, FIELDS, MODES, VAULT_STATUSES, ComfortMetrics, EmotionalSignature
from meshlab.times import format_time

TAGS = frozenset({"Insert", "Update", "Delete", "Recovered"})
EDGE_FLOATS = (0.0, -0.0, 0.1, 1.0, 5e-324, -5e-324, 2.2250738585072014e-308, 1e16, 2.0**53 + 2, 1.7976931348623157e308)
EDGE_TEXTS = (
    "",
    '"',
    "\\",
    "\t\r\n",
    "\x00",
    "\x7f",
    "\u2028",
    "é",
    "e\u0301",
    "ψ",
    "🤷🏽‍♀️",
    "שלום",
    '{"Insert":{}}',
    '","sum":"',
)
EDGE_TIMES = (
    "2025-07-01",
    "2025-07-01T10:00:00+02:00",
    "2025-07-01T10:00:00.123456789Z",
    "2024-02-29T23:59:60Z",
    "soon",
    "",
)

_FIRST, _LAST = -62_135_596_800_000_000, 253_402_300_799_999_999


def texts(max_size: int = 40) -> st.SearchStrategy[str]:
    """Any valid Unicode, often with quotes, escapes, NULs or what looks like our own format."""
    return st.sampled_from(EDGE_TEXTS) | st.text(st.characters(exclude_categories=["Cs"]), max_size=max_size)


def numbers() -> st.SearchStrategy[float]:
    """Finite doubles, with the edges of the format."""
    return st.sampled_from(EDGE_FLOATS) | st.floats(allow_nan=False, allow_infinity=False)


def times() -> st.SearchStrategy[str]:
    """Mostly the form meshlab writes, sometimes other forms, sometimes no time at all."""
    return st.integers(_FIRST, _LAST).map(format_time) | st.sampled_from(EDGE_TIMES)


def ids() -> st.SearchStrategy[str]:
    """Ids from a small set, so that events meet, and now and then any text but the empty one."""
    return st.sampled_from(("m1", "m2", "m3", "ψ-1", 'quo"te')) | texts(8).filter(bool)


def json_values() -> st.SearchStrategy[Any]:
    """Any JSON value: nested, with integers of 64 bits."""
    leaves = st.none() | st.booleans() | st.integers(-(1 << 63), (1 << 64) - 1) | numbers() | texts(12)
    return st.recursive(
        leaves, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts(6), inner, max_size=3)
    )


def extras() -> st.SearchStrategy[dict[str, Any] | None]:
    """Unknown fields of a memory, or (mostly) none."""
    names = texts(8).filter(lambda name: name not in FIELDS)
    return st.none() | st.none() | st.dictionaries(names, json_values(), min_size=1, max_size=3)


def signatures() -> st.SearchStrategy[EmotionalSignature]:
    """Emotional signatures, whole or in part."""
    part = st.none() | numbers()
    marks = st.none() | st.lists(texts(8), max_size=3).map(tuple)
    return st.builds(EmotionalSignature, valence=part, arousal=part, dominance=part, trauma_indicators=marks)


def comforts() -> st.SearchStrategy[ComfortMetrics]:
    """Comfort metrics, whole or in part."""
    part = st.none() | numbers()
    return st.builds(ComfortMetrics, energy=part, stress=part, flux=part, perturbation=part)


def _given_fields() -> dict[str, st.SearchStrategy[Any]]:
    return {
        "concept_id": texts(12),
        **{name: numbers() for name in ("phase_tag", "amplitude", "frequency", "width", "position", "stability")},
        "creation_time": times(),
        "last_accessed": times(),
        "access_count": st.sampled_from((0, 1, (1 << 63) - 1, (1 << 64) - 1)) | st.integers(0, (1 << 64) - 1),
        "content": texts(),
        "content_type": st.sampled_from(CONTENT_TYPES) | texts(8),
        "emotional_signature": signatures(),
        "vault_status": st.sampled_from(VAULT_STATUSES) | texts(8),
        "mode": st.sampled_from(MODES) | texts(8),
        "comfort_metrics": comforts(),
    }


def memories() -> st.SearchStrategy[SolitonMemory]:
    """Memories with all seventeen fields given, and sometimes unknown ones."""
    return st.builds(SolitonMemory, id=ids(), extra=extras(), **_given_fields())


def changes() -> st.SearchStrategy[SolitonMemory]:
    """The changed fields of a memory: an id and some others, perhaps none."""
    parts = {name: st.none() | field for name, field in _given_fields().items()}
    return st.builds(SolitonMemory, id=ids(), extra=extras(), **parts)


def recalls() -> st.SearchStrategy[SolitonMemory]:
    """What a recall changes: amplitude, stability, last_accessed, access_count."""
    names = ("amplitude", "stability", "last_accessed", "access_count")
    return st.builds(SolitonMemory, id=ids(), **{name: _given_fields()[name] for name in names})


def events() -> st.SearchStrategy[MeshEvent]:
    """Events that may be appended: mostly updates, as in real traffic."""
    tagged = (
        st.builds(Update, recalls()),
        st.builds(Update, changes()),
        st.builds(Update, memories()),
        st.builds(Insert, memories() | changes()),
        st.builds(Delete, ids()),
    )
    return st.one_of(*tagged, st.builds(Other, free_values()))


def free_values() -> st.SearchStrategy[Any]:
    """JSON values that are no tagged event."""
    return json_values().filter(lambda value: not (isinstance(value, dict) and TAGS.intersection(value)))


def batches(max_size: int = 6) -> st.SearchStrategy[list[MeshEvent]]:
    """The events of one ``append_many``."""
    return st.lists(events(), min_size=1, max_size=max_size)
