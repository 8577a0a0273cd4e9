"""A bucket of S3 and of what speaks its protocol: MinIO, Ceph, rclone.

Keys come from the environment, as every S3 client takes them: ``AWS_ACCESS_KEY_ID``,
``AWS_SECRET_ACCESS_KEY``, ``AWS_SESSION_TOKEN``, ``AWS_REGION``, ``AWS_ENDPOINT_URL``.
Every object goes in one request, which is whole or not there; multipart uploads, which
leave parts behind when they are cut off, are not used.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, NamedTuple
from urllib.parse import parse_qs, urlsplit

from meshlab.errors import MeshlabError, RemoteError, RemoteRefused, RemoteUnavailable
from meshlab.remote.bucket import PAGE, Found, not_found
from meshlab.times import from_datetime

CONNECT_SECONDS = 5.0
REQUEST_SECONDS = 60.0
"""Until a request counts as lost: 8 MiB in this time is 140 kB/s."""

_ENVIRONMENT = {
    "endpoint": ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL"),
    "region": ("AWS_REGION", "AWS_DEFAULT_REGION"),
    "access_key_id": ("AWS_ACCESS_KEY_ID",),
    "secret_access_key": ("AWS_SECRET_ACCESS_KEY",),
    "session_token": ("AWS_SESSION_TOKEN",),
}
_IN_URL = ("endpoint", "region")
_BUCKET = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{1,254}", re.ASCII)
_HOST = re.compile(r"[A-Za-z0-9._-]+|[0-9a-f:.]+", re.ASCII | re.IGNORECASE)
_STATUS = re.compile(r"status code: (\d{3})")
_CODE = re.compile(r"<Code>(\w+)</Code>")
_REFUSALS = {"NoSuchBucket", "AccessDenied", "InvalidAccessKeyId", "SignatureDoesNotMatch", "InvalidBucketName"}
_CLOCK = {"RequestTimeTooSkewed", "RequestExpired"}


class Place(NamedTuple):
    """Where a bucket is: its name, the prefix below which everything stands, and settings of the client."""

    bucket: str
    prefix: str
    settings: dict[str, str]


def parse_url(url: str) -> Place:
    """The place an address names, settings from the environment included.

    Raises ``RemoteRefused`` for an address that names no bucket or holds secrets, and
    without access keys in the environment.
    """
    parts = urlsplit(url)
    given = {name: values[-1] for name, values in parse_qs(parts.query).items()}
    unknown = sorted(given.keys() - set(_IN_URL))
    if not _BUCKET.fullmatch(parts.netloc) or parts.fragment:
        raise RemoteRefused(f"{url!r} names no bucket", hint="write s3://BUCKET/PREFIX; keys come from the environment")
    if unknown:
        raise RemoteRefused(f"{url!r}: there is no setting {unknown[0]!r}", hint=f"possible are {', '.join(_IN_URL)}")
    found = {
        name: value
        for name, variables in _ENVIRONMENT.items()
        if (value := next(filter(None, map(os.environ.get, variables)), None))
    }
    if "access_key_id" not in found or "secret_access_key" not in found:
        raise RemoteRefused(
            f"{url!r}: there are no access keys in the environment",
            hint="set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY; nobody else is asked for keys",
        )
    endpoint = given.get("endpoint", found.get("endpoint", "https://"))
    if not _is_server(endpoint):
        raise RemoteRefused(f"{endpoint!r} is no address of a server", hint="an endpoint is http(s)://HOST:PORT")
    path = parts.path.strip("/")
    return Place(parts.netloc, f"{path}/" if path else "", {"region": "us-east-1", **found, **given})


def _is_server(endpoint: str) -> bool:
    """Whether the client can ask there; of an address it cannot read it dies instead of raising.

    >>> [_is_server(text) for text in ("http://127.0.0.1:9000", "https://", "minio:9000", "http://a b", "http://a:b")]
    [True, True, False, False, False]
    """
    if endpoint == "https://":  # that of Amazon, which the client knows
        return True
    try:
        parts = urlsplit(endpoint)
        return parts.scheme in ("http", "https") and bool(_HOST.fullmatch(parts.hostname or "")) and parts.port != 0
    except ValueError:
        return False


class S3Bucket:
    """A prefix of a bucket; see ``Bucket``.  Raises ``RemoteRefused`` when obstore is not installed."""

    def __init__(self, url: str, *, seconds: float = REQUEST_SECONDS) -> None:
        place = parse_url(url)
        self.url = f"s3://{place.bucket}/{place.prefix}"
        self._prefix = place.prefix
        self._store = _client(place, seconds)

    def put(self, key: str, data: bytes) -> None:
        """Put an object."""
        with self._errors("put", key):
            self._store.put(self._prefix + key, data, mode="overwrite", use_multipart=False)

    def get(self, key: str) -> bytes:
        """The bytes of an object."""
        with self._errors("get", key):
            return bytes(self._store.get(self._prefix + key).bytes())

    def list(self, prefix: str) -> Iterator[Found]:
        """The objects below a prefix."""
        cut = len(self._prefix)
        with self._errors("list", prefix):
            for page in self._store.list(self._prefix + prefix, chunk_size=PAGE):
                for one in page:
                    yield Found(one["path"][cut:], one["size"], from_datetime(one["last_modified"]))

    def delete(self, keys: Iterable[str]) -> None:
        """Delete objects."""
        doomed = [self._prefix + key for key in keys]
        if doomed:
            with self._errors("delete", doomed[0]):
                self._store.delete(doomed)

    def check(self) -> None:
        """List nothing, to see whether the server answers, takes the keys and knows the bucket."""
        with self._errors("list", "remote/"):
            next(iter(self._store.list(self._prefix + "remote/", chunk_size=1)), None)

    @contextmanager
    def _errors(self, action: str, key: str) -> Iterator[None]:
        try:
            yield
        except MeshlabError:
            raise
        except Exception as error:
            raise _translated(self.url, action, key, error) from None


def _client(place: Place, seconds: float) -> Any:
    try:
        from obstore.store import S3Store
    except ImportError:
        raise RemoteRefused("obstore is not installed", hint="pip install 'meshlab[s3]'") from None
    settings: dict[str, Any] = dict(place.settings)
    plain = place.settings.get("endpoint", "").startswith("http://")
    return S3Store(
        place.bucket,
        **settings,
        virtual_hosted_style_request=False,
        client_options={
            "allow_http": plain,
            "connect_timeout": timedelta(seconds=min(CONNECT_SECONDS, seconds)),
            "timeout": timedelta(seconds=seconds),
        },
        retry_config={"max_retries": 0, "retry_timeout": timedelta(seconds=seconds)},
    )


def _translated(url: str, action: str, key: str, error: Exception) -> MeshlabError:
    """What went wrong, in our words: the client tells it as text."""
    text = " ".join(str(error).split("Debug source:")[0].split())
    status, code = _STATUS.search(text), _CODE.search(text)
    told = " ".join(filter(None, [status and status[1], code and code[1]])) or _short(text)
    where = f"{url}: cannot {action} {key}: {told}"
    if code and code[1] in _CLOCK:
        return RemoteRefused(where, hint="the clock of this machine and that of the server differ: set them")
    if code and code[1] in _REFUSALS:
        return RemoteRefused(where)
    if isinstance(error, FileNotFoundError):
        return not_found(url, key)
    if status and status[1][0] == "4" and status[1] not in ("408", "429"):
        return RemoteRefused(where)
    kind: Callable[..., RemoteError] = RemoteUnavailable if type(error).__name__ in _ANSWERLESS else RemoteRefused
    return kind(where)


_ANSWERLESS = {"GenericError", "JoinError", "TimeoutError", "OSError"}


def _short(text: str) -> str:
    return text.rpartition(" - ")[2][:200] or "no answer"
