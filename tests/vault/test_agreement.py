"""Whatever is done to a vault and to its log, it holds what the log means."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from meshlab.errors import BadEvent, DamageFound, NotFound
from meshlab.events import Delete
from meshlab.testing import strategies
from meshlab.times import DAY
from meshlab.wal import follow
from meshlab.wal.paths import segment_days

from .desk import Clock, add_bytes, assert_agrees, open_vault, reject_places, user_at

some_ids = st.sampled_from(["m1", "m2", "m3", "ψ"])
odd_fields = st.fixed_dictionaries(
    {},
    optional={
        "amplitude": st.sampled_from([0.5, -0.0, 3, "loud", None, [1]]),
        "access_count": st.sampled_from([0, (1 << 64) - 1, -1, 1 << 64, 1.5, None]),
        "content": st.sampled_from(["", "ψ", 5, None]),
        "concept_id": st.sampled_from(["c1", "c2", 7]),
        "vault_status": st.sampled_from(["Active", "UserSealed", "Gone"]),
        "emotional_signature": st.sampled_from([{}, {"valence": 1, "trauma_indicators": ["a"]}, {"other": 1}]),
        "theme": st.sampled_from(["dark", None, {"z": [1, 1.0], "a": 1 << 70}]),
        'na"me': st.sampled_from([1, 2.0]),
    },
)


@st.composite
def foreign_lines(draw):
    """A line by a program that knows nothing of locks."""
    tag = draw(st.sampled_from(["Insert", "Update", "Update", "Delete", "Note"]))
    id = draw(some_ids)
    event = {tag: id if tag == "Delete" else {"id": id} | draw(odd_fields)}
    dialect = draw(st.sampled_from(["bare", "gateway"]))
    line = event if dialect == "bare" else {"timestamp": "2025-07-07T08:00:00", "event": event}
    return json.dumps(line).encode() + draw(st.sampled_from([b"\n", b"\n", b"\r\n\n", b""]))


steps = st.one_of(
    st.tuples(st.sampled_from(["store", "recall", "recall", "update", "seal", "unseal", "delete", "day"]), some_ids),
    st.tuples(st.just("append"), strategies.batches(3)),
    st.tuples(st.just("foreign"), foreign_lines()),
    st.tuples(st.just("read"), some_ids),
)


def act(vault, clock, step, subject):
    try:
        if step == "store":
            vault.store_memory(f"concept of {subject}", subject, id=subject)
        elif step == "update":
            vault.update(subject, mode="Dark", extra={"theme": 1})
        elif step == "append":
            vault.user.append_many(subject)
        elif step == "foreign":
            add_bytes(vault.user, subject if vault.user.root.is_dir() else b"", segment_days(vault.user.root)[-1])
        elif step == "day":
            clock.now += DAY // 2
        elif step == "read":
            vault.get(subject)
        else:
            getattr(vault, step)(subject)
    except (NotFound, BadEvent):
        pass


@settings(max_examples=30)
@given(st.lists(st.tuples(st.integers(0, 2), steps), max_size=15), st.booleans())
def test_vaults_agree_with_the_state_whatever_happens(tmp_path_factory, history, glances):
    path, clock = tmp_path_factory.mktemp("vaults"), Clock()
    users = [user_at(path, clock) for _ in range(3)]
    users[0].append(Delete("first"))
    vaults = [open_vault(user, clock) for user in users]
    with pytest.MonkeyPatch.context() as patch:
        if not glances:
            patch.setattr(follow, "_GLANCE", -1)
        for number, (step, subject) in history:
            try:
                act(vaults[number], clock, step, subject)
            except DamageFound:  # lines without a newline glue what follows to themselves
                for vault in vaults:
                    vault.accept(reject_places(users[0]))
        for vault in vaults:
            vault.accept(reject_places(users[0]))
            assert_agrees(vault)
    assert_agrees(open_vault(users[0], clock, accept=reject_places(users[0])))
