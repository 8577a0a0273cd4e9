"""Tokens: what a file grants, when it is read again, and what it does not give away."""

import hashlib
import os
import statistics
import time
from contextlib import suppress

import pytest

from meshlab.errors import NotFound
from meshlab.service.gateway.auth import OPEN, RIGHTS, BadTokenFile, Tokens
from meshlab.service.gateway.refusals import Forbidden, Unauthorized

ENTRY = '[[token]]\nname = "{name}"\nsha256 = "{sha256}"\nusers = {users}\nrights = {rights}\n'


def entry(token, users='["ann"]', rights='["append"]', name="web"):
    return ENTRY.format(name=name, sha256=hashlib.sha256(token.encode()).hexdigest(), users=users, rights=rights)


@pytest.fixture
def clock():
    class Clock:
        now = 0.0

        def __call__(self):
            return self.now

    return Clock()


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "tokens.toml"
    path.write_text(entry("right") + entry("all", '["*"]', '["append", "read", "checkpoint", "metrics"]', "ops"))
    return path


@pytest.fixture
def tokens(path, clock):
    complaints = []
    tokens = Tokens(path, steady=clock, complain=complaints.append)
    tokens.complaints = complaints
    return tokens


def test_without_a_file_everybody_may_do_everything():
    assert Tokens(None, steady=time.monotonic).grant(None) is OPEN


def test_a_token_grants_what_its_entry_says(tokens):
    grant = tokens.grant("Bearer right")
    assert (grant.name, grant.users, grant.rights) == ("web", {"ann"}, {"append"})
    grant.check("ann", "append")
    tokens.grant("bearer  all").check("anybody", "checkpoint")


@pytest.mark.parametrize(
    "header", [None, "", "Bearer", "Bearer ", "Bearer wrong", "Basic right", "right", "Bearer r\xef"]
)
def test_no_token_and_a_wrong_one_are_told_the_same(header, tokens):
    with pytest.raises(Unauthorized) as caught:
        tokens.grant(header)
    assert caught.value.message == "no token, or not one this gateway knows"


@pytest.mark.parametrize(("uid", "right"), [("bob", "append"), ("ann", "read"), ("nobody", "append")])
def test_another_user_or_right_is_refused_in_words_that_name_neither(uid, right, tokens):
    with pytest.raises(Forbidden) as caught:
        tokens.grant("Bearer right").check(uid, right)
    assert uid not in caught.value.message


def test_a_changed_file_is_read_within_a_second(tokens, path, clock):
    path.write_text(entry("new"))
    assert tokens.grant("Bearer right")
    clock.now += 1.1
    assert tokens.grant("Bearer new")
    with pytest.raises(Unauthorized):
        tokens.grant("Bearer right")


def test_a_file_that_became_wrong_is_told_of_and_the_tokens_before_hold(tokens, path, clock):
    path.write_text("[[token]]\nname =")
    clock.now += 1.1
    assert tokens.grant("Bearer right")
    (complaint,) = tokens.complaints
    assert isinstance(complaint, BadTokenFile)
    clock.now += 1.1
    tokens.grant("Bearer right")
    assert len(tokens.complaints) == 1


def test_a_file_that_went_takes_all_tokens_with_it(tokens, path, clock):
    os.unlink(path)
    clock.now += 1.1
    with pytest.raises(Unauthorized):
        tokens.grant("Bearer right")
    assert isinstance(tokens.complaints[0], NotFound)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "token is missing"),
        ("token = 1", "no token file"),
        (entry("x").replace("sha256", "sha512"), "missing|unknown"),
        (entry("x").replace('users = ["ann"]\n', ""), "users is missing"),
        (entry("x", rights='["write"]'), "unknown: write"),
        (entry("x", users='["../ann"]'), "not allowed"),
        (entry("x", users='"ann"'), "users must be a list"),
        (entry("x", rights='"append"'), "rights must be a list"),
        (entry("x", users="[1]"), "users must be a list"),
        (entry("x").replace('sha256 = "', 'sha256 = "zz'), "digits|hexadecimal"),
        ('[[token]]\nsha256 = "aa"\nusers = []\nrights = []\n', "2 digits"),
    ],
)
def test_a_file_that_is_wrong_from_the_start_is_an_error_that_says_why(text, said, tmp_path):
    path = tmp_path / "tokens.toml"
    path.write_text(text)
    with pytest.raises(BadTokenFile, match=said):
        Tokens(path, steady=time.monotonic)


def test_a_missing_file_is_an_error_from_the_start(tmp_path):
    with pytest.raises(NotFound):
        Tokens(tmp_path / "nowhere.toml", steady=time.monotonic)


def test_the_file_holds_no_token_and_the_process_no_hash_of_the_file(tokens, path):
    assert b"right" not in path.read_bytes().replace(b"rights", b"")
    hashes = {bytes.fromhex(line.split('"')[1]) for line in path.read_text().splitlines() if line.startswith("sha256")}
    assert not hashes & set(tokens._grants)


def test_a_look_up_takes_no_longer_the_more_of_a_token_is_right(tokens):
    def seconds(token):
        header = f"Bearer {token}"
        began = time.perf_counter()
        with suppress(Unauthorized):
            tokens.grant(header)
        return time.perf_counter() - began

    pairs = [(seconds("righx"), seconds("xxxxx")) for _ in range(5_000)]
    near, far = (statistics.quantiles(times, n=100)[4] for times in zip(*pairs, strict=True))
    assert abs(near - far) / far < 0.2


def test_the_rights_are_those_the_routes_ask_for():
    assert RIGHTS == ("append", "read", "checkpoint", "metrics")
