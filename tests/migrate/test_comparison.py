"""Record by record: what is lost, invented, changed, duplicated, or with the wrong user."""

import random

import pyarrow as pa
import pytest

from meshlab.migrate.comparison import (
    CHANGED,
    DUPLICATED,
    MOVED,
    Finding,
    compare,
    explain,
    findings_of,
    holding,
    sort_out,
    take_census,
)
from meshlab.tables.schema import RECORD_SCHEMA


def batch(*rows):
    return pa.RecordBatch.from_pylist([{"id": row} if isinstance(row, str) else row for row in rows], RECORD_SCHEMA)


def differ(old, new):
    """The differences of users given as {uid: rows}, sorted out, by uid."""
    sides = {uid: (batch(*old[uid]), batch(*new[uid])) for uid in old}
    found = [compare(uid, *(take_census([side]) for side in pair)) for uid, pair in sides.items()]

    def holders(hashes):
        for uid, (before, _) in sides.items():
            yield from holding(uid, [before], hashes)

    return {one.difference.uid: one for one in sort_out(found, holders)}


def told(one):
    return [str(finding) for finding in findings_of(one)]


def test_equal_sides_have_no_findings_in_whatever_order():
    one = differ({"ann": ["a", "b", "c"]}, {"ann": ["c", "a", "b"]})["ann"]
    assert told(one) == []
    assert (one.difference.same, one.difference.before, one.difference.after) == (3, 3, 3)
    assert len(one.difference.changed) == 0


@pytest.mark.parametrize("sides", [([], []), (["a"], []), ([], ["a"])])
def test_empty_sides_are_sides(sides):
    one = differ({"ann": sides[0]}, {"ann": sides[1]})["ann"]
    assert (len(one.lost), len(one.invented)) == (len(sides[0]), len(sides[1]))


def test_lost_and_invented_are_named():
    assert told(differ({"ann": ["a", "b"]}, {"ann": ["b", "c"]})["ann"]) == [
        "ann: lost: memory a",
        "ann: invented: memory c",
    ]


def test_an_id_that_stands_twice_is_duplicated():
    one = differ({"ann": ["a", "b"]}, {"ann": ["a", "b", "a", "a"]})["ann"]
    assert told(one) == ["ann: duplicated: memory a: stands there twice"]
    assert one.difference.same == 2


def test_swapped_users_moved_and_lost_nothing():
    found = differ({"ann": ["a", "b"], "ben": ["c"]}, {"ann": ["c"], "ben": ["a", "b"]})
    assert told(found["ann"]) == [f"ann: moved: memory {id}: stands with user ben" for id in "ab"]
    assert told(found["ben"]) == ["ben: moved: memory c: stands with user ann"]
    assert (found["ann"].received, found["ben"].received) == ([("c", "ben")], [("a", "ann"), ("b", "ann")])


def test_a_copy_with_another_user_is_duplicated_there():
    found = differ({"ann": ["a"], "ben": ["b"]}, {"ann": ["a"], "ben": ["b", "a"]})
    assert told(found["ann"]) == []
    assert told(found["ben"]) == ["ben: duplicated: memory a: also stands with user ann, whose it is"]


def test_an_id_both_users_had_before_is_no_copy():
    found = differ({"ann": ["a"], "ben": ["a"]}, {"ann": ["a"], "ben": ["a"]})
    assert told(found["ann"]) == told(found["ben"]) == []


def test_another_record_under_the_id_of_another_user_is_invented():
    found = differ({"ann": ["a"], "ben": []}, {"ann": ["a"], "ben": [{"id": "a", "amplitude": 1.0}]})
    assert told(found["ben"]) == ["ben: invented: memory a"]


def test_a_changed_record_tells_field_and_both_values():
    old = [{"id": "a", "amplitude": 0.1, "mode": "Dark", "extra": '{"x":1}'}, {"id": "b"}]
    new = [{"id": "a", "amplitude": 0.10000000000000002, "extra": '{"x":2}'}, {"id": "b"}]
    one = differ({"ann": old}, {"ann": new})["ann"]
    assert one.difference.changed.to_pylist() == ["a"]
    assert explain("ann", one.difference.changed, [batch(*old)], [batch(*new)]) == [
        Finding("ann", CHANGED, "a", "amplitude", "0.1", "0.10000000000000002"),
        Finding("ann", CHANGED, "a", "mode", '"Dark"', None),
        Finding("ann", CHANGED, "a", "x", "1", "2"),
    ]


def test_a_difference_no_field_shows_is_told_all_the_same():
    (finding,) = explain("ann", pa.array(["a"]), [batch("a")], [batch("a")])
    assert (finding.id, finding.field) == ("a", "(how a value is written)")


def test_long_values_are_cut_to_where_they_differ():
    text = "x" * 100_000
    old, new = {"id": "a", "content": text + "old" + text}, {"id": "a", "content": text + "new" + text}
    (finding,) = explain("ann", pa.array(["a"]), [batch(old)], [batch(new)])
    assert "old" in finding.before
    assert "new" in finding.after
    assert len(finding.before) < 300
    assert finding.before.startswith("…x")
    assert finding.after.endswith("x…")


def test_values_that_are_not_finite_are_told_as_text():
    old, new = {"id": "a", "amplitude": float("nan")}, {"id": "a", "amplitude": float("inf")}
    (finding,) = explain("ann", pa.array(["a"]), [batch(old)], [batch(new)])
    assert (finding.before, finding.after) == ('"NaN"', '"Infinity"')


def test_findings_are_listed_up_to_a_limit():
    one = differ({"ann": [f"m{at}" for at in range(50)]}, {"ann": []})["ann"]
    assert len(findings_of(one, 7)) == 7
    assert len(one.lost) == 50


def test_random_faults_are_all_found():
    dice = random.Random(3)
    for _ in range(40):
        old = {uid: {f"{uid}{at}": 0.5 for at in range(dice.randrange(1, 12))} for uid in ("ann", "ben", "cleo")}
        new = {uid: dict(rows) for uid, rows in old.items()}
        expected = {"lost": set(), "invented": set(), CHANGED: set(), MOVED: set(), DUPLICATED: set()}
        touched = set()
        for _ in range(dice.randrange(6)):
            kind, uid = dice.choice(list(expected)), dice.choice(list(old))
            other = dice.choice([one for one in old if one != uid])
            id = dice.choice(list(old[uid]))
            if id in touched:
                continue
            touched.add(id)
            expected[kind].add((other if kind == DUPLICATED else uid, f"new{id}" if kind == "invented" else id))
            if kind in ("lost", MOVED):
                del new[uid][id]
            if kind in (MOVED, DUPLICATED):
                new[other][id] = 0.5
            if kind == "invented":
                new[uid][f"new{id}"] = 0.5
            if kind == CHANGED:
                new[uid][id] = 0.25
        sides = [
            {uid: [{"id": id, "width": width} for id, width in rows.items()] for uid, rows in side.items()}
            for side in (old, new)
        ]
        found = {kind: set() for kind in expected}
        for one in differ(*sides).values():
            for finding in findings_of(one):
                found[finding.kind].add((finding.uid, finding.id))
            found[CHANGED] |= {(one.difference.uid, id) for id in one.difference.changed.to_pylist()}
        assert found == expected
