"""Errors say what and where, and what to do next."""

import errno
import inspect
import os
import pickle

import pytest

from meshlab import errors
from meshlab.errors import MeshlabError, NotFound, StorageError, storage_errors

KINDS = [kind for _, kind in inspect.getmembers(errors, inspect.isclass) if issubclass(kind, MeshlabError)]
HINTED = [
    (errno.ENOSPC, "disk is full"),
    (errno.EDQUOT, "quota"),
    (errno.EROFS, "read-only"),
    (errno.EACCES, "permission"),
    (errno.EPERM, "permission"),
    (errno.EISDIR, "directory stands where a file"),
    (errno.ENOTDIR, "file stands where a directory"),
    (errno.EIO, "check the disk"),
    (errno.EMFILE, "open files"),
]


@pytest.mark.parametrize("kind", KINDS)
def test_every_error_has_a_hint_of_its_own_and_shows_it(kind):
    error = kind("what, where")
    assert (error.message, error.hint) == ("what, where", kind.default_hint)
    assert str(error) == f"what, where ({kind.default_hint})"
    assert str(kind("what", hint="do this")) == "what (do this)"
    assert "\n" not in str(error)


@pytest.mark.parametrize("kind", KINDS)
def test_every_error_is_named_in_the_overview(kind):
    assert kind.__name__ in errors.__doc__


@pytest.mark.parametrize("kind", KINDS)
def test_an_error_survives_the_way_between_processes(kind):
    again = pickle.loads(pickle.dumps(kind("what", hint="do this")))
    assert (type(again), again.message, again.hint) == (kind, "what", "do this")


def test_errors_are_also_what_python_calls_them():
    assert issubclass(errors.BadUserId, ValueError)
    assert issubclass(errors.BadEvent, ValueError)
    assert issubclass(errors.NotFound, LookupError)
    assert issubclass(errors.StorageError, OSError)
    assert issubclass(errors.WriteFailed, errors.StorageError)
    assert issubclass(errors.WalPoisoned, errors.StorageError)
    assert issubclass(errors.FrameTooLarge, errors.BadEvent)


@pytest.mark.parametrize(("code", "hint"), HINTED, ids=lambda value: errno.errorcode.get(value))
def test_what_the_operating_system_refused_is_told_with_the_path_and_what_to_do(code, hint):
    with pytest.raises(StorageError) as told, storage_errors("read", "/some/file"):
        raise OSError(code, os.strerror(code), "/another/file")
    assert told.value.message == f"cannot read /some/file: {os.strerror(code)}"
    assert hint in told.value.hint
    assert told.value.__cause__.errno == code


def test_a_file_that_is_not_there_is_not_found():
    with pytest.raises(NotFound, match="cannot read /nowhere/x: No such file"), storage_errors("read", "/nowhere/x"):
        os.stat("/nowhere/x")


def test_an_error_without_a_number_still_says_why():
    with pytest.raises(StorageError, match="cannot list /place: odd"), storage_errors("list", "/place"):
        raise OSError("odd")


def test_errors_of_meshlab_and_of_programs_pass_as_they_are():
    for error in (StorageError("mine"), KeyError("a defect"), KeyboardInterrupt()):
        with pytest.raises(type(error)) as passed, storage_errors("read", "/place"):
            raise error
        assert passed.value is error
