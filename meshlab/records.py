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
    """How a memory felt; each number is unitless, None means not given."""

    valence: Finite | None = None
    arousal: Finite | None = None
    dominance: Finite | None = None
    trauma_indicators: tuple[str, ...] | None = None


class ComfortMetrics(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """The comfort state of a memory; each number is unitless, None means not given."""

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
