"""A file written through the sink is whole and on the medium when it is closed, or was never closed well."""

import errno
import hashlib
import io

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from meshlab.testing import FailingFiles, ForgetfulFiles, PowerCut, RecordingFiles
from meshlab.wal import sink as sink_module
from meshlab.wal.sink import SyncedFile


@pytest.fixture
def path(tmp_path):
    return tmp_path / "file"


def steps(files):
    return [(done.name, done.size) for done in files.operations]


def test_what_was_written_is_counted_hashed_and_there(path):
    with SyncedFile(path) as sink:
        assert [sink.write(data) for data in (b"one", b"", bytearray(b" two"), memoryview(b" three"))] == [3, 0, 4, 6]
        assert sink.tell() == 13
    assert path.read_bytes() == b"one two three"
    assert sink.hexdigest() == hashlib.sha256(b"one two three").hexdigest()


def test_a_closed_file_outlives_a_power_cut_once_its_name_is_synced(path):
    disk = ForgetfulFiles()
    with SyncedFile(path, disk) as sink:
        sink.write(b"data")
    disk.sync_directory(path.parent)
    disk.crash(path.parent)
    assert path.read_bytes() == b"data"


def test_an_empty_file_is_synced_too(path):
    files = RecordingFiles()
    SyncedFile(path, files).close()
    assert steps(files) == [("open", 0), ("sync", 0), ("close", 0)]


def test_every_step_is_synced_while_the_file_grows(path, monkeypatch):
    monkeypatch.setattr(sink_module, "SYNC_STEP", 4)
    files = RecordingFiles()
    with SyncedFile(path, files) as sink:
        sink.write(b"ab")
        sink.write(b"cdefghijk")
        sink.write(b"l")
    assert path.read_bytes() == b"abcdefghijkl"
    sync = ("sync", 0)
    assert steps(files)[1:-1] == [
        *(("write", 2), ("write", 2), sync),
        *(("write", 4), sync),
        *(("write", 3), ("write", 1), sync),
    ]


def test_a_name_that_is_taken_is_refused(path):
    path.write_bytes(b"mine")
    with pytest.raises(FileExistsError):
        SyncedFile(path)
    assert path.read_bytes() == b"mine"


def test_short_writes_are_carried_on(path):
    with SyncedFile(path, FailingFiles(kind="write", nth=1, short=3)) as sink:
        assert sink.write(b"0123456789") == 10
    assert path.read_bytes() == b"0123456789"
    assert sink.hexdigest() == hashlib.sha256(b"0123456789").hexdigest()


def test_a_disk_that_takes_nothing_is_an_error_and_no_endless_loop(path):
    sink = SyncedFile(path, FailingFiles(kind="write", nth=1, short=0, forever=True))
    with pytest.raises(OSError, match="nothing was written"):
        sink.write(b"data")


@pytest.mark.parametrize("kind", ["write", "sync"])
def test_after_a_failure_neither_write_nor_close_succeeds(path, monkeypatch, kind):
    monkeypatch.setattr(sink_module, "SYNC_STEP", 4)
    files = FailingFiles(RecordingFiles(), kind, 1, error=errno.ENOSPC)
    sink = SyncedFile(path, files)
    for attempt in (lambda: sink.write(b"data"), lambda: sink.write(b"more"), sink.close):
        with pytest.raises(OSError) as caught:
            attempt()
        assert caught.value.errno == errno.ENOSPC
    assert sink.closed
    assert steps(files.inner)[-1] == ("close", 0)
    sink.close()


def test_a_failed_last_sync_makes_close_fail_and_the_descriptor_is_closed(path):
    files = FailingFiles(RecordingFiles(), "sync", 1)
    sink = SyncedFile(path, files)
    sink.write(b"data")
    with pytest.raises(OSError):
        sink.close()
    assert steps(files.inner)[-1] == ("close", 0)


def test_left_by_an_exception_it_is_closed_without_a_sync(path):
    files = RecordingFiles()
    with pytest.raises(PowerCut), SyncedFile(path, files) as sink:
        sink.write(b"data")
        raise PowerCut
    assert steps(files) == [("open", 0), ("write", 4), ("close", 0)]


def test_nothing_is_written_behind_the_end(path):
    sink = SyncedFile(path)
    sink.close()
    with pytest.raises(ValueError, match="closed"):
        sink.write(b"late")


def test_a_buffered_writer_takes_it_for_a_file(path):
    with SyncedFile(path) as sink, io.BufferedWriter(sink, 1 << 16) as buffered:
        for number in range(1000):
            buffered.write(b"%d\n" % number)
    assert path.read_bytes().count(b"\n") == 1000


def test_a_parquet_file_goes_through_it(path):
    table = pa.table({"number": range(100_000)})
    with SyncedFile(path) as sink, pq.ParquetWriter(pa.PythonFile(sink, "w"), table.schema) as writer:
        writer.write_table(table)
    assert pq.read_table(path) == table
    assert sink.hexdigest() == hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.mark.parametrize("kind", ["write", "sync"])
def test_an_error_below_a_parquet_file_reaches_the_caller_as_it_is(path, monkeypatch, kind):
    monkeypatch.setattr(sink_module, "SYNC_STEP", 1 << 10)
    table = pa.table({"number": range(100_000)})
    files = FailingFiles(kind=kind, nth=2, error=PowerCut("cut"))
    with (
        pytest.raises(PowerCut, match="cut"),
        SyncedFile(path, files) as sink,
        pq.ParquetWriter(pa.PythonFile(sink, "w"), table.schema) as writer,
    ):
        writer.write_table(table)
