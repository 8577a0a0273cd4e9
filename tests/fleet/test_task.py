"""Tasks are large enough to be worth sending, and named by what decides their result."""

from meshlab.fleet.task import WORTH, Weighed, cut, tasks_of
from meshlab.tables.load import Piece


def planned(users, **options):
    return list(tasks_of(users, **{"speed": 100e6, "overhead": 0.003, "identity": "x", "split": 1 << 30, **options}))


def test_every_task_but_the_last_is_a_tenth_of_a_second_of_work():
    users = [Weighed(f"u{at:04d}", at * 1_000, "m") for at in range(1_000)]
    tasks = planned(users)
    assert WORTH >= 0.1
    seconds = [sum(0.003 + unit.nbytes / 100e6 for unit in task.units) for task in tasks]
    assert min(seconds[:-1]) >= 0.1
    assert [unit.uid for task in tasks for unit in task.units] == [user.uid for user in users]


def test_the_name_changes_with_the_job_the_user_and_the_pieces():
    one = planned([Weighed("ann", 1, "m")])[0].id
    others = [
        planned([Weighed("ann", 1, "m")], identity="y"),
        planned([Weighed("bob", 1, "m")]),
        planned([Weighed("ann", 1, "other")]),
    ]
    assert planned([Weighed("ann", 1, "m")])[0].id == one
    assert one not in {tasks[0].id for tasks in others}


def test_a_large_user_is_cut_by_segment_and_stands_between_the_others():
    pieces = tuple((Piece(f"2025070{at}"), 40) for at in range(1, 6))
    users = [Weighed("a", 1), Weighed("b", 200, "m", pieces=pieces), Weighed("c", 1)]
    tasks = planned(users, split=100)
    assert [task.units[0].uid for task in tasks] == ["a", "b", "b", "b", "c"]
    assert [len(unit.pieces) for unit in cut(users[1], 100)] == [2, 2, 1]
    assert [piece.segment[-1] for unit in cut(users[1], 100) for piece in unit.pieces] == list("12345")
    assert planned(users, split=200)[0].units[1].pieces is None
