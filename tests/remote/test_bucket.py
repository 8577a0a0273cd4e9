"""Every bucket keeps the contract, and the checks find those that do not."""

import errno

import pytest

from meshlab.errors import NotFound, RemoteRefused, RemoteUnavailable
from meshlab.remote.bucket import FolderBucket, MemoryBucket
from meshlab.remote.remote import open_bucket
from meshlab.remote.s3 import S3Bucket, parse_url
from meshlab.testing import FailingFiles, ForgetfulFiles

from .conformance import CHECKS, KEYS


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_a_bucket(bucket, check):
    check(bucket)


class Forgets(MemoryBucket):
    def put(self, key, data):
        if not key.startswith("remote/"):
            super().put(key, data)


class Cuts(MemoryBucket):
    def get(self, key):
        return super().get(key)[:-1]


class KeepsTheFirst(MemoryBucket):
    def put(self, key, data):
        if key not in self._held:
            super().put(key, data)


class ListsTwice(MemoryBucket):
    def list(self, prefix):
        return iter(sorted([*super().list(prefix)] * 2))


class ListsNeighbours(MemoryBucket):
    def list(self, prefix):
        return super().list(prefix.rstrip("/"))


class ListsOnePage(MemoryBucket):
    def list(self, prefix):
        return iter(list(super().list(prefix))[:1000])


class ListsInNoOrder(MemoryBucket):
    def list(self, prefix):
        return iter(sorted(super().list(prefix), key=lambda found: found.key[::-1]))


class GivesNothing(MemoryBucket):
    def get(self, key):
        try:
            return super().get(key)
        except NotFound:
            return b""


class NeverDeletes(MemoryBucket):
    def delete(self, keys):
        pass


WRONG = [Forgets, Cuts, KeepsTheFirst, ListsTwice, ListsNeighbours, ListsOnePage, ListsInNoOrder]


@pytest.mark.parametrize("kind", [*WRONG, GivesNothing, NeverDeletes], ids=lambda kind: kind.__name__)
def test_a_bucket_that_breaks_the_contract_is_found_out(kind):
    failures = 0
    for check in CHECKS:
        try:
            check(kind())
        except (AssertionError, NotFound, pytest.fail.Exception):
            failures += 1
    assert failures


def test_a_folder_that_is_not_mounted_is_no_empty_bucket(tmp_path):
    bucket = FolderBucket(tmp_path / "nowhere")
    for ask in (bucket.check, lambda: bucket.put(KEYS[0], b"x"), lambda: list(bucket.list("data/"))):
        with pytest.raises(RemoteRefused, match="no such directory"):
            ask()
    assert not (tmp_path / "nowhere").exists()


def test_an_object_in_a_folder_is_durable_when_the_put_returns(tmp_path):
    (tmp_path / "bucket").mkdir()
    disk = ForgetfulFiles()
    bucket = FolderBucket(tmp_path / "bucket", files=disk)
    bucket.put(KEYS[0], b"kept")
    disk.crash(tmp_path)
    assert FolderBucket(tmp_path / "bucket").get(KEYS[0]) == b"kept"


@pytest.mark.parametrize("kind", ["open", "write", "sync", "rename"])
def test_a_put_that_fails_half_way_leaves_no_object(tmp_path, kind):
    (tmp_path / "bucket").mkdir()
    files = FailingFiles(kind=kind)
    with pytest.raises(RemoteUnavailable, match="cannot put"):
        FolderBucket(tmp_path / "bucket", files=files).put(KEYS[0], b"x")
    assert files.hits == 1
    assert list(FolderBucket(tmp_path / "bucket").list("data/")) == []
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_a_folder_that_may_not_be_written_refuses(tmp_path):
    (tmp_path / "bucket").mkdir()
    with pytest.raises(RemoteRefused, match="Permission denied"):
        FolderBucket(tmp_path / "bucket", files=FailingFiles(kind="open", error=errno.EACCES)).put(KEYS[0], b"x")


def test_a_key_cannot_lead_out_of_the_folder(tmp_path):
    (tmp_path / "bucket").mkdir()
    bucket = FolderBucket(tmp_path / "bucket")
    for key in ("../outside", "data/../../outside", "/etc/passwd", "data//x", "data/.hidden", ""):
        with pytest.raises(RemoteRefused, match="no key of ours"):
            bucket.put(key, b"x")
    assert not (tmp_path / "outside").exists()


def test_wrong_keys_and_a_missing_bucket_are_refusals(gateway, monkeypatch):
    missing = S3Bucket(gateway.url("p", bucket="nobucket"))
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "not-the-secret-of-this-gateway")
    wrong = S3Bucket(gateway.url("p"))
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "NOBODYKNOWSTHISKEY00")
    unknown = S3Bucket(gateway.url("p"))
    told = {"NoSuchBucket": missing, "SignatureDoesNotMatch": wrong, "InvalidAccessKeyId": unknown}
    for code, bucket in told.items():
        for ask in (bucket.check, lambda b=bucket: b.put(KEYS[0], b"x"), lambda b=bucket: b.get(KEYS[0])):
            with pytest.raises(RemoteRefused, match=code):
                ask()


def test_without_access_keys_nobody_is_asked(monkeypatch):
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(RemoteRefused, match="no access keys"):
        S3Bucket("s3://mesh/p")


def test_a_server_that_is_not_there_is_unavailable(gateway):
    bucket = S3Bucket("s3://mesh/p?endpoint=http://127.0.0.1:9")
    for ask in (bucket.check, lambda: bucket.put(KEYS[0], b"x"), lambda: list(bucket.list("data/"))):
        with pytest.raises(RemoteUnavailable):
            ask()


def test_two_prefixes_of_a_bucket_do_not_see_each_other(gateway, prefix):
    one, other = S3Bucket(gateway.url(prefix)), S3Bucket(gateway.url(prefix + "0"))
    one.put(KEYS[0], b"x")
    assert list(other.list("data/")) == []
    with pytest.raises(NotFound):
        other.get(KEYS[0])


@pytest.mark.parametrize("url", ["", "ftp://host/x", "file://host/x", "s3://", "s3://key:secret@bucket", "s3://b#x"])
def test_an_address_of_no_bucket_is_refused(url, gateway):
    with pytest.raises(RemoteRefused) as told:
        open_bucket(url)
    assert "://" in told.value.hint


def test_secrets_are_not_taken_from_an_address(gateway, monkeypatch):
    with pytest.raises(RemoteRefused, match="secret_access_key"):
        parse_url("s3://mesh/p?secret_access_key=x")
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    monkeypatch.delenv("AWS_REGION", raising=False)
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-central-1")
    place = parse_url("s3://mesh/a/b/")
    assert (place.bucket, place.prefix) == ("mesh", "a/b/")
    assert (place.settings["endpoint"], place.settings["region"]) == ("http://127.0.0.1:1", "eu-central-1")


def test_a_path_and_a_file_address_are_the_same_folder(tmp_path):
    (tmp_path / "a b").mkdir()
    open_bucket(str(tmp_path / "a b")).put(KEYS[0], b"x")
    assert open_bucket(f"file://{tmp_path}/a%20b").get(KEYS[0]) == b"x"


@pytest.mark.parametrize("endpoint", ["notaurl", "minio:9000", "http://", "http://a b", "http://a:b", "ftp://a"])
def test_an_endpoint_the_client_would_die_of_is_refused(monkeypatch, endpoint):
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "x")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "x")
    with pytest.raises(RemoteRefused, match="no address of a server"):
        parse_url(f"s3://mesh?endpoint={endpoint}")
    monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint)
    with pytest.raises(RemoteRefused, match="no address of a server"):
        parse_url("s3://mesh")
    assert parse_url("s3://mesh?endpoint=http://127.0.0.1:9000").settings["endpoint"] == "http://127.0.0.1:9000"


@pytest.mark.parametrize("name", ["Bad_Bucket!", "a", "me@mesh", "a%20b", "-mesh"])
def test_a_name_that_no_bucket_has_is_refused(name):
    with pytest.raises(RemoteRefused, match="names no bucket"):
        parse_url(f"s3://{name}/prefix")


def test_a_folder_bucket_syncs_the_names_of_directories_that_a_failed_put_has_made(tmp_path):
    disk = ForgetfulFiles()
    (tmp_path / "bucket").mkdir()
    for nth in (1, 2):
        files = FailingFiles(disk, "sync_directory", nth)
        with pytest.raises(RemoteUnavailable):
            FolderBucket(tmp_path / "bucket", files=files).put("data/ann/block", b"bytes")
    FolderBucket(tmp_path / "bucket", files=disk).put("data/ann/block", b"bytes")
    disk.crash(tmp_path)
    assert FolderBucket(tmp_path / "bucket").get("data/ann/block") == b"bytes"


def test_what_a_folder_bucket_lists_is_there_to_stay(tmp_path):
    disk = ForgetfulFiles()
    (tmp_path / "bucket" / "images").mkdir(parents=True)
    with pytest.raises(RemoteUnavailable):
        FolderBucket(tmp_path / "bucket", files=FailingFiles(disk, "sync_directory", 2)).put("images/one", b"bytes")
    bucket = FolderBucket(tmp_path / "bucket", files=disk)
    seen = [found.key for found in bucket.list("")]
    disk.crash(tmp_path)
    assert [found.key for found in bucket.list("")] == seen == ["images/one"]
