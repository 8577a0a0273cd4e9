"""What a policy would have done is what real checkpoints at the same moments do."""

from concurrent.futures import ThreadPoolExecutor
from random import Random
from typing import NamedTuple

import pyarrow as pa
import pytest

from meshlab.growth.calibration import Costs
from meshlab.growth.material import Material
from meshlab.growth.outcome import Outcome, outcome
from meshlab.growth.policies import Policy
from meshlab.growth.simulation import OBJECTIVES, SIMULATION_SCHEMA, Simulation, simulate
from meshlab.growth.sizes import measured, records_of, synthetic
from meshlab.growth.trace import trace
from meshlab.snapshot.checkpoint import checkpoint
from meshlab.snapshot.manifest import RETAIN_DAYS
from meshlab.snapshot.vacuum import vacuum
from meshlab.tables.events import load_users
from meshlab.tables.load import Log
from meshlab.testing import LogBuilder, build_store
from meshlab.times import DAY, SECOND, day_of
from meshlab.wal.paths import SNAPSHOT, segment_name

from .past import START, history, log_with, made

COSTS = Costs(setup=0.02, event=5e-6, byte=1.5e-8, record=3e-6)
SIZES = measured(synthetic())


def recalls(root):
    build_store(root.parent, users=[root.name], days=5, events=2400, recall_share=0.85, batch_share=0.0)


def documents(root):
    """Inserts of long contents, one in five of them an old one again."""
    random, log, old = Random(3), LogBuilder(), ["x" * 300]
    for number in range(900):
        words = (f"{random.getrandbits(40):x}" for _ in range(random.randrange(5, 300)))
        old.append(random.choice(old) if random.random() < 0.2 else " ".join(words))
        event = {"id": f"{random.getrandbits(128):032x}", "amplitude": random.random(), "content": old[-1]}
        log.frame([{"Insert": event}], day=day_of(START + number // 300 * DAY))
    log.write(root)


def deletes(root):
    shares = {"recall_share": 0.3, "delete_share": 0.32}
    build_store(root.parent, users=[root.name], days=9, events=2400, batch_share=0.0, **shares)


class Real(NamedTuple):
    """What real checkpoints did: their reports, and bytes of manifests, WAL and disk."""

    reports: list
    manifests: int
    peak_wal: int
    peak_disk: int


def made_really(source, root, found, stops, retain):
    """Checkpoints of the same log at the same moments; where the retention is short, with vacuums behind them."""
    table = load_users([Log(source, "u")], columns=["segment", "offset", "nbytes"], progress=False).to_arrow()
    places = list(zip(*(table[name].to_pylist() for name in table.column_names)))
    root.mkdir()
    reports, manifests, wal, disk, folded = [], 0, 0, 0, 0
    for start, stop in zip([0, *stops], [*stops, len(found)]):
        for day in sorted({day for day, _, _ in places[start:stop]}):
            last = max(offset + nbytes for name, offset, nbytes in places[start:stop] if name == day)
            with open(root / segment_name(day), "ab") as file:
                file.write((source / segment_name(day)).read_bytes()[file.tell() : last])
        wal = max(wal, int(found.ends[stop]) - folded)
        if stop not in stops:
            break
        now = int(found.time[stop - 1]) + SECOND
        reports.append(checkpoint(root, "u", retain=retain, progress=False, clock=lambda now=now: now))
        folded += reports[-1].bytes_folded
        manifests += (root / SNAPSHOT).stat().st_size
        disk = max(disk, sum(path.stat().st_size for path in root.rglob("*.*") if path.parent.name != "sealed"))
        if retain < RETAIN_DAYS:
            vacuum(root, "u", apply=True, clock=lambda now=now: now)
    return Real(reports, manifests, wal, disk)


class Both(NamedTuple):
    material: Material
    simulated: Outcome
    real: Real


@pytest.fixture(
    scope="module",
    params=[
        (recalls, Policy(events=190), RETAIN_DAYS),
        (documents, Policy(bytes=110e3), RETAIN_DAYS),
        (deletes, Policy(events=400, age=18 * 3600.0), 2),
    ],
    ids=["mostly recalls", "long contents", "many deletes"],
)
def both(request, tmp_path_factory):
    fill, policy, retain = request.param
    root = tmp_path_factory.mktemp("both")
    source = root / "store" / "u"
    fill(source)
    found = trace(Log(source, "u"))
    sizes = measured(records_of(Log(source, "u")))
    material = Material(found, sizes, COSTS)
    simulated = outcome(policy, material, sizes, retain)
    return Both(material, simulated, made_really(source, root / "u", found, simulated.stops.tolist(), retain))


def test_bytes_written_are_within_ten_percent(both):
    simulated, real = sum(one.total for one in both.simulated.written), sum(r.bytes_written for r in both.real.reports)
    real += both.real.manifests
    merges = sum(report.bytes_merged > 0 for report in both.real.reports)
    print(f"{len(both.real.reports)} checkpoints, {merges} with merges: simulated {simulated:,}, real {real:,} bytes")
    assert simulated == pytest.approx(real, rel=0.10)
    assert merges >= 2
    without_merges = sum(one.change + one.manifest for one in both.simulated.written)
    assert without_merges != pytest.approx(real, rel=0.10), "the merges are what it is about"


def test_peak_wal_is_within_ten_percent(both):
    print(f"peak WAL: simulated {both.simulated.peak_wal:,}, real {both.real.peak_wal:,} bytes")
    assert both.simulated.peak_wal == pytest.approx(both.real.peak_wal, rel=0.10)


def test_peak_disk_behind_vacuums_is_within_ten_percent(both):
    print(f"peak disk: simulated {both.simulated.peak_disk:,}, real {both.real.peak_disk:,} bytes")
    assert both.simulated.peak_disk == pytest.approx(both.real.peak_disk, rel=0.10)


def test_every_checkpoint_changes_as_many_records_as_it_really_did(both):
    stops = both.simulated.stops
    tombstones = both.material.tombstones(stops)
    bounds = list(zip([0, *stops.tolist()], stops.tolist()))
    assert [both.material.changed(*pair)[0] for pair in bounds] == [r.changed for r in both.real.reports]
    assert [tombstones.within(*pair) for pair in bounds] == [r.gone for r in both.real.reports]
    assert [both.material.alive(stop)[0] for stop in stops] == [r.records for r in both.real.reports]
    assert [both.material.orphans(stop) for stop in stops][-1] == sum(r.orphans for r in both.real.reports)


def test_merges_are_as_many_as_there_really_were(both):
    """When the others have just become as large as the oldest, a few bytes make it the next checkpoint that merges."""
    real = sum(report.bytes_merged > 0 for report in both.real.reports)
    assert abs(sum(one.merged > 0 for one in both.simulated.written) - real) <= 1


# What is told of them


def table(*rows):
    names = ("policy", "checkpoints", "idle_users", *OBJECTIVES)
    filled = [dict.fromkeys(SIMULATION_SCHEMA.names, 1) | dict(zip(names, row)) for row in rows]
    return pa.Table.from_pylist([row | {"pareto": False} for row in filled], SIMULATION_SCHEMA)


def told(*rows, replay=2.0):
    policies = [Policy(events=number + 1) for number in range(len(rows))]
    return Simulation(policies, table(*[(str(p), *row) for p, row in zip(policies, rows)]), replay, [])


def test_the_policy_that_writes_least_is_recommended_if_its_replay_is_short():
    found = told((3, 0, 100, 9, 0.5), (2, 0, 50, 20, 1.9), (1, 0, 10, 90, 2.1))
    assert found.recommended == Policy(events=2)
    assert "of 2 policies that checkpoint every user and keep replay below 2 s it writes least" in found.recommendation


def test_where_none_is_quick_the_quickest_is_recommended():
    found = told((3, 0, 100, 9, 5.0), (2, 0, 50, 20, 7.0))
    assert found.recommended == Policy(events=1)
    assert "no policy that checkpoints every user keeps replay below 2 s" in found.recommendation


def test_a_policy_that_leaves_users_without_checkpoint_is_not_recommended_if_another_does_not():
    assert told((3, 1, 10, 9, 0.5), (2, 0, 50, 20, 1.9)).recommended == Policy(events=2)
    found = told((3, 1, 10, 9, 0.5), (2, 2, 5, 20, 1.9))
    assert found.recommended == Policy(events=1)
    assert "it alone checkpoints all but 1 user and keeps replay below 2 s" in found.recommendation


def test_nothing_is_recommended_when_nobody_is_checkpointed():
    found = told((0, 1, 0, 9, 0.5))
    assert found.recommended is None
    assert "none of them would have made a checkpoint" in found.recommendation


def test_the_pareto_set_is_what_no_policy_beats():
    found = made([("insert", number % 40, 300) for number in range(2000)])
    policies = [Policy(events=size) for size in (100, 200, 300, 500, 1000)] + [Policy(bytes=1e5), Policy(events=100.5)]
    simulated = simulate(found, policies, sizes=SIZES)
    points = {row["policy"]: tuple(row[name] for name in OBJECTIVES) for row in simulated.to_pylist()}
    expected = []
    for name, point in points.items():
        rivals = [other for other in points.values() if other != point and all(a <= b for a, b in zip(other, point))]
        if not rivals and point not in [points[known] for known in expected]:
            expected.append(name)
    assert sorted(simulated.pareto["policy"].to_pylist()) == sorted(expected)
    assert len(expected) < len(policies), "of two policies that come to the same the first is kept"


def test_users_add_up_and_the_slowest_counts():
    small, large = made([("insert", n % 9) for n in range(200)]), made([("insert", n % 9, 300) for n in range(500)])
    policies = [Policy(events=50), Policy(events=300)]
    rows = [
        simulate(one, policies, sizes=SIZES).to_pylist()
        for one in (small, large, [small, large], small.scaled(users=3))
    ]
    for one, other, both, three in zip(*rows):
        for name in ("checkpoints", "peak_wal_bytes", "peak_disk_bytes", "written_bytes", "folded_bytes", "idle_users"):
            assert both[name] == one[name] + other[name]
            assert three[name] == 3 * one[name]
        assert both["worst_replay_seconds"] == max(one["worst_replay_seconds"], other["worst_replay_seconds"])
    assert [row["idle_users"] for row in rows[2]] == [0, 1]


def test_ten_times_the_recalls_fold_ten_times_the_recalls():
    found = made([("insert", n) for n in range(50)] + [("update", n % 50) for n in range(1000)])
    plain, scaled = (simulate(found, [Policy(events=100)], sizes=SIZES, recalls=n).to_pylist()[0] for n in (1, 10))
    assert scaled["checkpoints"] == pytest.approx(9 * plain["checkpoints"], rel=0.2)


def test_logs_are_read_where_they_are_simulated(tmp_path):
    logs = [Log(log_with(tmp_path / uid, history(seed)), uid) for seed, uid in enumerate(("ann", "bob"))]
    policies = [Policy(events=30), Policy(age=3600.0)]
    plain = simulate(logs, policies)
    with ThreadPoolExecutor(2) as pool:
        assert simulate(logs, policies, executor=pool).table.equals(plain.table)
    sizes = measured(records_of(logs[1]))  # of the larger log
    assert plain.table.equals(simulate([trace(log) for log in logs], policies, sizes=sizes).table)


# What cannot be known


def test_an_empty_store_says_that_there_was_nothing():
    found = simulate([])
    assert found.notes == ("There are no events: nothing was simulated.",)
    assert found.recommended is None
    assert "nothing to recommend" in repr(found)


@pytest.mark.parametrize("rows", [[], [("insert", 0)], [("other", 0)] * 30, [("delete", 0)]])
def test_next_to_nothing_is_simulated_all_the_same(rows):
    found = simulate(made(rows), [Policy(events=5), Policy(age=1.0)], sizes=SIZES)
    assert found.table.num_rows == 2
    assert len(found.recommendation) > 20


def test_other_events_are_folded_and_leave_manifests_only():
    (row,) = simulate(made([("other", 0)] * 30), [Policy(events=9)], sizes=SIZES).to_pylist()
    assert (row["checkpoints"], row["folded_bytes"]) == (3, 3000)
    assert 3 * SIZES.snapshot(0, 0, 1, 0) == row["written_bytes"]


def test_what_is_no_event_is_told_of(tmp_path):
    root = log_with(tmp_path / "u", [{"Insert": {"id": "a"}}, {"Insert": {"id": "b"}}])
    path = root / "wal-20250701.log"
    path.write_bytes(path.read_bytes().replace(b'"a"', b'"x"') + b"\n\n")
    notes = " ".join(simulate(Log(root, "u"), [Policy(events=1)]).notes)
    assert "of the logs are no events" in notes
    assert "damaged or missing" in notes


def test_a_short_log_says_what_does_not_show_in_it():
    notes = " ".join(simulate(made([("insert", 0), ("insert", 1)]), [Policy(events=1)], sizes=SIZES).notes)
    assert "what a policy does over weeks does not show" in notes
    assert "retention of 14 days" in notes
    assert (
        simulate(made([("insert", 0), ("insert", 1)], seconds=20 * 86_400), [Policy(events=1)], sizes=SIZES).notes == ()
    )


def test_records_from_before_the_log_are_told_of():
    notes = simulate(made([("update", 0)], begun=False), [Policy(events=1)], sizes=SIZES).notes
    assert any("not begin with the first event" in note for note in notes)


def test_a_result_shows_itself_without_markup_of_others():
    found = simulate(made([("insert", n) for n in range(90)]), [Policy(events=20)], sizes=SIZES)
    assert repr(found).startswith("<Simulation of 1 policy: recommended events=20")
    assert found.recommendation in found._repr_html_()
    assert len(found._repr_html_()) < 20_000
    assert found.to_pandas().shape == (1, len(SIMULATION_SCHEMA))
