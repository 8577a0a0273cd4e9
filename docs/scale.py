"""The plan for ten million users: ``python docs/scale.py [--measure] [--users N]`` writes ``docs/scale.md``.

``--measure`` makes some users on this machine, takes what each costs (``docs/scale.json``),
and the page is computed from that, the assumptions and the prices below.  Seconds are of
processor time, so a machine that is busy with other things does not change them much.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(REPOSITORY))

FIGURES, PAGE = REPOSITORY / "docs" / "scale.json", REPOSITORY / "docs" / "scale.md"
DAY, GB, MONTH_DAYS, MONTH_HOURS = 86_400, 1e9, 30, 730


@dataclass(frozen=True)
class Assumptions:
    """What nobody can measure here: who comes how often, and how much of a machine is used."""

    users: int = 10_000_000
    active: float = 0.10
    events: int = 20
    proved_every_days: int = 30
    verified_every_days: int = 7
    retained_every_days: int = 30
    busy: float = 0.5
    cores_a_machine: int = 2


@dataclass(frozen=True)
class Prices:
    """Public list prices in US dollars, us-east-1."""

    machine_hour: float = 0.0816
    storage_gb_month: float = 0.023
    puts_thousand: float = 0.005
    gets_thousand: float = 0.0004
    disk_gb_month: float = 0.08


SOURCES = (
    ("m7g.large (2 vCPU, 8 GiB), an hour", "machine_hour", "factualminds.com, EC2 On-Demand pricing", "2026-06-17"),
    ("gp3 disk, a GB and month", "disk_gb_month", "github.com/aws/agent-toolkit-for-aws, EBS", "early 2026"),
    ("S3 Standard, a GB and month", "storage_gb_month", "devnotes.tech, S3 pricing", "read 2026-11-29"),
    ("1,000 PUT or LIST requests", "puts_thousand", "devnotes.tech, S3 pricing", "read 2026-11-29"),
    ("1,000 GET requests", "gets_thousand", "devnotes.tech, S3 pricing", "read 2026-11-29"),
)


# What one user costs, measured

SAMPLE, ROUNDS = 40, 4
_START = 1_751_846_400_000_000
"""Midnight of 2025-07-07 in µs."""


def measure(sample: int = SAMPLE) -> dict[str, float]:
    """Some users who come every fifth day; their last day is taken, when they have a past."""
    import meshlab
    from meshlab.fleet.fleet import Fleet
    from meshlab.remote.bucket import FolderBucket
    from meshlab.remote.remote import Remote
    from meshlab.snapshot.checkpoint import checkpoint
    from meshlab.testing.traffic import Mix, Traffic

    with tempfile.TemporaryDirectory(prefix="meshlab-") as name:
        folder = Path(name)
        (folder / "bucket").mkdir()
        clock = [_START]
        people = [Traffic(number, Mix()) for number in range(sample)]
        remote = Remote(folder / "store", FolderBucket(folder / "bucket"), clock=lambda: clock[0])
        for number in range(ROUNDS):
            clock[0] = _START + number * 5 * DAY * 1_000_000 + 12 * 3_600_000_000
            _append(folder / "store", people, clock)
            roots = sorted(path for path in (folder / "store").iterdir() if path.name.startswith("u"))
            began = time.process_time()
            for root in roots:
                checkpoint(root, root.name, progress=False, clock=lambda: clock[0])
            folded = time.process_time() - began
            began = time.process_time()
            report = remote.push(progress=False)
            pushed = time.process_time() - began
        store, fleet = meshlab.open(folder / "store"), Fleet(folder / "store", 1, progress=False)
        found: dict[str, float] = {
            "disk_bytes": _tree(folder / "store", "u*"),
            "bucket_bytes": _tree(folder / "bucket", "*"),
            "objects": sum(path.is_file() for path in (folder / "bucket").rglob("*")),
            "checkpoint": folded,
            "push": pushed,
            "push_puts": report.traffic.puts + report.traffic.lists,
            "push_gets": report.traffic.gets,
        }
        fleet.verify(store.users()[:2])
        for job in ("verify", "stats", "growth", "state"):
            found[job] = _seconds(getattr(fleet, job))
        began = time.process_time()
        proofs = fleet.prove(remote=(folder / "bucket").as_uri()).to_pylist()
        found["prove"] = time.process_time() - began
        assert {row["outcome"] for row in proofs} == {"proved"}
        found["prove_gets"], found["prove_puts"] = (sum(row[name] for row in proofs) for name in ("gets", "lists"))
        return {name: value / sample for name, value in found.items()}


def _append(store: Path, people: list[Any], clock: list[int]) -> None:
    """A day of every user: one event a minute."""
    import numpy as np

    from meshlab.events import decode_event
    from meshlab.testing.traffic import stamps
    from meshlab.wal.writer import Writer

    for number, traffic in enumerate(people):
        times = np.array([clock[0] + step * 60_000_000 for step in range(Assumptions.events)])
        with_clock = Writer(store / f"u{number:03d}", durability="os", clock=lambda: clock[0])
        for stamp in stamps(times):
            with_clock.append(decode_event(traffic.event(stamp)))
        with_clock.close()


def _seconds(work: Callable[[], Any]) -> float:
    """Processor time of this process."""
    began = time.process_time()
    work()
    return time.process_time() - began


def _tree(folder: Path, pattern: str) -> int:
    return sum(path.stat().st_size for top in folder.glob(pattern) for path in [top, *top.rglob("*")] if path.is_file())


# The plan


def daily_work(figures: dict[str, float], of: Assumptions) -> dict[str, tuple[float, float]]:
    """Users a day, and processor seconds, by kind of work."""
    users = {
        "checkpoint": of.users * of.active,
        "push": of.users * of.active,
        "prove": of.users / of.proved_every_days,
        "verify": of.users / of.verified_every_days,
        "growth": of.users * of.active,
    }
    return {name: (count, count * figures[name]) for name, count in users.items()}


RETAIN_LISTS = 2
"""Requests of ``sync retain`` for a user, and a GET for each image, of which every visit left one."""


def daily_requests(figures: dict[str, float], of: Assumptions) -> tuple[float, float]:
    """PUT and LIST, and GET, of pushes and proofs a day."""
    work = daily_work(figures, of)
    pushed, proved = work["push"][0], work["prove"][0]
    puts = pushed * figures["push_puts"] + proved * figures["prove_puts"]
    return puts, pushed * figures["push_gets"] + proved * figures["prove_gets"]


def spared(of: Assumptions) -> float:
    """The part of the pushes that goes when users are pushed every second day: that of who comes on both.

    >>> round(spared(Assumptions(active=0.1)), 3), spared(Assumptions(active=1.0))
    (0.05, 0.5)
    """
    return 1 - (1 - (1 - of.active) ** 2) / (2 * of.active)


def machines(seconds: float, of: Assumptions) -> int:
    """How many are needed for so much work a day."""
    return math.ceil(seconds / DAY / of.busy / of.cores_a_machine)


def monthly_cost(figures: dict[str, float], of: Assumptions, prices: Prices) -> dict[str, float]:
    """US dollars a month."""
    work = daily_work(figures, of)
    puts, gets = daily_requests(figures, of)
    retained = MONTH_DAYS * of.users / of.retained_every_days
    count = machines(sum(seconds for _, seconds in work.values()), of)
    return {
        "machines": count * MONTH_HOURS * prices.machine_hour,
        "disks": of.users * figures["disk_bytes"] / GB * prices.disk_gb_month,
        "bucket, bytes": of.users * figures["bucket_bytes"] / GB * prices.storage_gb_month,
        "bucket, PUT and LIST": MONTH_DAYS * puts / 1000 * prices.puts_thousand,
        "bucket, GET": MONTH_DAYS * gets / 1000 * prices.gets_thousand,
        "bucket, retention": retained * (RETAIN_LISTS * prices.puts_thousand + ROUNDS * prices.gets_thousand) / 1000,
    }


def simulate(figures: dict[str, float], of: Assumptions, count: int) -> list[tuple[int, float, float]]:
    """A day, hour by hour: users who arrive, hours of work that wait, and what share of the machines is used.

    A user is checkpointed and pushed in the hour after the last event of the day; proofs
    and verification take what is left, and must be through at the end.
    """
    capacity = count * of.cores_a_machine * 3600
    urgent = figures["checkpoint"] + figures["push"] + figures["growth"]
    work = daily_work(figures, of)
    rest = work["prove"][1] + work["verify"][1]
    waiting, rows = 0.0, []
    for hour in range(24):
        share = (1 + 0.8 * math.cos(2 * math.pi * (hour - 20) / 24)) / 24
        arrived = of.users * of.active * share
        waiting += arrived * urgent
        done = min(waiting, capacity)
        waiting -= done
        spare = min(rest, capacity - done)
        rest -= spare
        rows.append((int(arrived), waiting / capacity, (done + spare) / capacity))
    return [*rows, (-1, (waiting + rest) / capacity, 0.0)]


# The page


def page(figures: dict[str, float], of: Assumptions, prices: Prices) -> str:
    """The whole of ``docs/scale.md``."""
    work = daily_work(figures, of)
    total = sum(seconds for _, seconds in work.values())
    count = machines(total, of)
    cost = monthly_cost(figures, of, prices)
    twice = monthly_cost(figures, replace(of, active=2 * of.active), prices)
    day = simulate(figures, of, count)
    fewer = simulate(figures, of, max(1, count // 3))
    jobs = ("checkpoint", "push", "prove", "verify", "stats", "growth", "state")
    per_user = _table(
        ("a user", "figure"),
        [
            ("on the disk", f"{figures['disk_bytes'] / 1e3:,.1f} kB"),
            ("in the bucket", f"{figures['bucket_bytes'] / 1e3:,.1f} kB in {figures['objects']:.1f} objects"),
            ("requests of a push", f"{figures['push_puts']:.1f} PUT and LIST, {figures['push_gets']:.1f} GET"),
            ("requests of a proof", f"{figures['prove_puts']:.1f} LIST, {figures['prove_gets']:.1f} GET"),
            *((f"{job}, processor time", f"{figures[job] * 1e3:,.1f} ms") for job in jobs),
        ],
    )
    assumed = _table(("assumption", "value"), [(name.replace("_", " "), f"{v:,}") for name, v in asdict(of).items()])
    priced = _table(
        ("what", "US dollars", "source", "date"),
        [(what, f"{getattr(prices, name)}", source, date) for what, name, source, date in SOURCES],
    )
    stock = _table(
        ("in all", "figure"),
        [
            ("objects in the bucket", f"{of.users * figures['objects'] / 1e6:,.0f} million"),
            ("bytes in the bucket", f"{of.users * figures['bucket_bytes'] / 1e12:,.2f} TB"),
            ("bytes on disks", f"{of.users * figures['disk_bytes'] / 1e12:,.2f} TB"),
            ("PUT and LIST requests a day", f"{daily_requests(figures, of)[0] / 1e6:,.1f} million"),
            ("processor time a day", f"{total / 3600:,.0f} hours"),
            ("machines", f"{count}"),
        ],
    )
    daily = _table(
        ("a day", "users", "processor hours"),
        [(name, f"{users:,.0f}", f"{seconds / 3600:,.1f}") for name, (users, seconds) in work.items()],
    )
    costs = _table(
        ("a month", "US dollars", f"with {2 * of.active:.0%} active"),
        [
            *((name, f"{value:,.0f}", f"{twice[name]:,.0f}") for name, value in cost.items()),
            ("together", f"{sum(cost.values()):,.0f}", f"{sum(twice.values()):,.0f}"),
        ],
    )
    hours = _table(
        ("hour", "users whose day ends", f"hours of work waiting, {count} machines", "in use"),
        [(f"{hour:02d}", f"{arrived:,}", f"{wait:.2f}", f"{used:.0%}") for hour, (arrived, wait, used) in
         enumerate(day[:-1]) if hour % 3 == 2],
    )  # fmt: skip
    return TEXT.format(
        users=f"{of.users:,}", per_user=per_user, assumed=assumed, priced=priced, stock=stock, daily=daily,
        costs=costs, hours=hours, sample=SAMPLE, rounds=ROUNDS, count=count, left=f"{day[-1][1]:.1f}",
        fewer=max(1, count // 3), fewer_left=f"{fewer[-1][1]:.1f}", horizon=f"{ROUNDS / of.active:,.0f}",
        spared=f"{spared(of):.0%}", active=f"{of.active:.0%}", retain_lists=RETAIN_LISTS,
    )  # fmt: skip


def _table(head: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    lines = [head, ("---",) * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


TEXT = """\
# Many users

## One machine, more than one core, more than one machine

`store.fleet()` does a job for every user in processes of this machine; `store.fleet(client)` on a Dask cluster (extra
`fleet`), whose workers must see the store under the same path; `Fleet("s3://BUCKET/PREFIX", client)` reads what
`sync push` wrote, and each worker restores the users it reads to scratch, where the next run deletes what killed
workers left. On the command line: `--jobs N`, `--dask ADDRESS`, and `--store s3://BUCKET/PREFIX`.

- One bad user is a row with `kind`, `message` and `hint`; the others are done.
- Small users go together, so that a task is a quarter of a second of work by estimate; who is as much alone goes alone.
  A log of more than 128 MiB is verified and loaded by segment, 32 MiB or more at a time; where the pieces meet, the
  chain is checked, and what was read from a wrong start is read again. Rows may be chosen (`since`, `ops` …) only along
  a whole log, so such a load is not cut. From a bucket the log of a user with checkpoints is loaded whole, too: its
  order is known only where it is.
- With `out=FOLDER` partitions stay: `summary.parquet` has a row per user, `parts/` the tables. The same job in the
  same folder skips what is done, as long as the users look as they did (names, sizes and times of files, or images),
  and tries those again who failed. One run uses a folder at a time. Another job, other options, another store and other
  users (all are others than a list of them) are refused; what another version of meshlab made is made anew.
- A worker that is killed changes nothing: its task is done again. A user who takes every worker with it is given up,
  alone, and is a row.
- `checkpoint` and `vacuum` change users, so they run on a local path only, a user to a task, and are never skipped. Nor
  are proofs, which are of the bucket as it is now.
- A worker takes as many threads as it has: processes share the cores, a worker of Dask has what it was started with.

## The plan for {users} users

Computed by `python docs/scale.py` from what {sample} users cost on the machine of the benchmarks, who came on {rounds}
days, five days apart, and were checkpointed and pushed each time. What is measured is multiplied and nothing else, so
the figures of an application with larger users are those of `python docs/scale.py --measure` with its own.

### Per user, measured

{per_user}

Processor time of one core, without what a network adds; requests were counted on a bucket in a folder and are the same
for S3. `stats` and `growth` of days that are sealed or vacuumed read what stands beside them, not the log.

### Assumptions

{assumed}

`active` is the share of users who come on a day, each with `events` events, whoever came before. Every user is proved
from the bucket, verified, and looked at by `sync retain` every so many days. `busy` is how much of a machine may be
used: the rest is for bad days.

### Prices

{priced}

List prices of us-east-1, as the pages named had them; look them up before relying on them. Traffic within a region
costs nothing, traffic out of it is not in the plan.

### In all

{stock}

Objects and bytes are those of users who have come on {rounds} days each, with {active} active {horizon} days after the
first. They grow with every visit until `vacuum` and `sync retain` take away what no moment within retention needs; how
far that goes is not in the plan, so for a longer time measure users with a longer past.

{daily}

{costs}

The machines are those for checkpoints, pushes, proofs, verification and growth; the gateway and its disks' speed are
planned by [gateway.md](gateway.md) and [benchmarks.md](benchmarks.md). PUT requests are most of the price of a bucket
of small users: a push puts the end of the log, what the checkpoint wrote, and an image. Pushing every second day spares
{spared} of the pushes with {active} active, for few come on both days, and doubles what the loss of a disk costs.
Retention is {retain_lists} LIST for each user and a GET for each image; what it gets besides to look into snapshots,
and its DELETE, which cost nothing, are left out.

## A day, simulated

Users' days end by a curve with its peak at 20:00 UTC, the lowest hour at a ninth of it. Each is checkpointed, pushed
and counted within the hour; proofs and verification take what is left of the machines.

{hours}

Hours of work left at the end of the day: {left} with {count} machines, {fewer_left} with {fewer}. What is left of an
even day is left every day, so the latter would not do.

What plan and simulation leave out: processor time of `vacuum` and `sync retain`, retries and slow answers of the
store, users of very different size (a large one is a task of its own, and is cut), the time to start workers, and that
a real day has hours when everybody comes.

## What the one process that asks needs

It lists the users, cuts tasks and writes one row per user, 10,000 rows at a time. Its memory grew from 166 MB for 1,000
users to 188 MB for 10,000 (growth of a store in a directory, two processes; the largest worker took 183 and 184 MB),
which is 2.4 kB a user for the list of tasks: 24 GB for 10 million, if that went on. Of a bucket the names of all images
are held besides, which was not measured. So give each of a dozen runs a share of the users
(`fleet.growth(uids, out=...)`), each with a folder of its own, and join the summaries.
"""


def main() -> None:
    """Measure, if asked to, and write the page."""
    parser = argparse.ArgumentParser(description="the plan for many users")
    parser.add_argument("--measure", action="store_true", help="take the figures anew, on this machine")
    parser.add_argument("--users", type=int, default=Assumptions.users)
    options = parser.parse_args()
    if options.measure:
        FIGURES.write_text(json.dumps(measure(), indent=1, sort_keys=True) + "\n")
    PAGE.write_text(page(json.loads(FIGURES.read_text()), Assumptions(users=options.users), Prices()))
    print(PAGE)


if __name__ == "__main__":
    main()
