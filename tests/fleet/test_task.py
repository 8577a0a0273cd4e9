"""Tasks are large enough to be worth sending, and named by what decides their result."""

from meshlab.fleet.task import WORTH, Task, Weighed, cut, tasks_of
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


def uids(tasks: list[Task]) -> list[list[str]]:
    return [[unit.uid for unit in task.units] for task in tasks]


def test_who_is_worth_a_task_goes_alone_and_never_waits_with_others_in_memory():
    large = int(100e6 * WORTH)
    users = [Weighed("a", 1), Weighed("b", large), Weighed("c", 1), Weighed("d", large - 1_000), Weighed("e", 1)]
    assert uids(planned(users)) == [["a"], ["b"], ["c", "d"], ["e"]]


def test_everybody_goes_alone_where_users_are_changed():
    assert uids(planned([Weighed("a", 1), Weighed("b", 1)], alone=True)) == [["a"], ["b"]]


def test_no_piece_is_too_small_to_be_worth_a_task():
    sizes = [1, 100, 1, 1, 100, 50, 2]
    user = Weighed("a", sum(sizes), "m", pieces=tuple((Piece(f"2025070{at}"), size) for at, size in enumerate(sizes)))
    assert [unit.nbytes for unit in cut(user, 100)] == [101, 102, 52]
    assert [[piece.segment for piece in unit.pieces] for unit in cut(user, 0)] == [
        [piece.segment] for piece, _ in user.pieces
    ]
    slim = user._replace(nbytes=110, pieces=user.pieces[1:3])
    assert uids(planned([slim], split=100)) == [["a"]] and planned([slim], split=100)[0].units[0].pieces is None


def test_a_task_does_not_grow_with_the_pieces_before_it():
    days = tuple((Piece(f"2025{month:02d}{day:02d}"), 10) for month in range(1, 13) for day in range(1, 29))
    units = list(cut(Weighed("a", 10 * len(days), "m", pieces=days), 10))
    assert max(len(unit.before) for unit in units) < 10
    assert all(unit.before[-1] == days[at][0] for at, unit in enumerate(units[1:]))
