"""What a memory consists of: the seventeen fields, their types and names.

>>> FIELDS[:3]
('id', 'concept_id', 'phase_tag')
"""

from __future__ import annotations

import sys
from typing import Annotated

import msgspec

CONTENT_TYPES = ("Conversation", "UploadedDocument", "GeneratedInsight", "UserReflection", "AssociativeMemory")
VAULT_STATUSES = ("Active", "UserSealed", "TimeLocked", "DeepVault", "Quarantine")
MODES = ("Bright", "Dark")

Finite = Annotated[float, msgspec.Meta(ge=-sys.float_info.max, le=sys.float_info.max)]
"""A float that JSON can hold; NaN fits no bound."""


class EmotionalSignature(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """How a memory felt; each number is unitless, None means not given.

    >>> EmotionalSignature(valence=0.2, trauma_indicators=("loss",)).trauma_indicators
    ('loss',)
    """

    valence: Finite | None = None
    arousal: Finite | None = None
    dominance: Finite | None = None
    trauma_indicators: tuple[str, ...] | None = None


class ComfortMetrics(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """The comfort state of a memory; each number is unitless, None means not given.

    >>> msgspec.to_builtins(ComfortMetrics(energy=0.5))
    {'energy': 0.5}
    """

    energy: Finite | None = None
    stress: Finite | None = None
    flux: Finite | None = None
    perturbation: Finite | None = None


class Fields(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True, gc=False):
    """The seventeen fields in serialisation order."""

    id: str
    concept_id: str | None = None
    phase_tag: Finite | None = None
    amplitude: Finite | None = None
    frequency: Finite | None = None
    width: Finite | None = None
    position: Finite | None = None
    stability: Finite | None = None
    creation_time: str | None = None
    last_accessed: str | None = None
    access_count: int | None = None
    content: str | None = None
    content_type: str | None = None
    emotional_signature: EmotionalSignature | None = None
    vault_status: str | None = None
    mode: str | None = None
    comfort_metrics: ComfortMetrics | None = None


FIELDS: tuple[str, ...] = Fields.__struct_fields__
FIELD_SET = frozenset(FIELDS)


def fits_u64(number: int) -> bool:
    """Whether an integer can be an ``access_count``."""
    return 0 <= number < 1 << 64


class _GivenSignature(EmotionalSignature, frozen=True):
    pass


class _GivenComfort(ComfortMetrics, frozen=True):
    pass


NotEmpty = Annotated[str, msgspec.Meta(min_length=1)]


class Given(Fields, frozen=True):
    """The fields as a caller gives them in a dict, of types of their own.

    ``msgspec.convert`` lets an object of the wanted type through without a look at what
    is in it; of these types nobody has one, so everything is checked.  Only that an
    ``access_count`` has 64 bits is not: msgspec knows no bound so large.
    """

    id: NotEmpty
    access_count: Annotated[int, msgspec.Meta(ge=0)] | None = None
    emotional_signature: _GivenSignature | None = None
    comfort_metrics: _GivenComfort | None = None


class Tagged(msgspec.Struct, frozen=True, forbid_unknown_fields=True, gc=False):
    """An event as a dict with one name gives it; its JSON is that of the event."""

    Insert: Given | msgspec.UnsetType = msgspec.UNSET
    Update: Given | msgspec.UnsetType = msgspec.UNSET
    Delete: NotEmpty | msgspec.UnsetType = msgspec.UNSET
