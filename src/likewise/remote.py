"""Files and folders by URL, s3://, gs:// or hdfs://, through the file systems of pyarrow.

Keys and regions are those of the environment, as the libraries of each service read them.
"""

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import quote, urlsplit, urlunsplit

from likewise.errors import LikewiseError
from likewise.text import shortened

SCHEMES = ("s3", "gs", "gcs", "hdfs", "viewfs", "abfs", "abfss")
WHOLE = ("s3", "gcs", "abfs")  # a file is there when it was written to its end, and not before
_PATIENCE = "retry_limit_seconds=30"  # of Google's library, which otherwise tries for a quarter of an hour
_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://")
_ADVICE = (
    ("NO_SUCH_BUCKET", "there is no such bucket; make it, or correct the name"),
    ("allow_bucket_creation", "there is no such bucket; make it, or correct the name"),
    ("ACCESS_DENIED", "the keys in the environment do not allow it; give others"),
    ("INVALID_ACCESS_KEY", "the keys in the environment are not known there; give others"),
    ("SIGNATURE_DOES_NOT_MATCH", "the secret key in the environment is another; correct it"),
    ("credentials", "there are no keys in the environment; give some"),
    ("OAuth2", "there are no keys in the environment; give some"),
    ("NETWORK_CONNECTION", "the service can't be reached; look at the network, and at the address in the environment"),
    ("libjvm", "hdfs:// needs Java and Hadoop's libhdfs on this machine; set JAVA_HOME and HADOOP_HOME"),
    ("libhdfs", "hdfs:// needs Java and Hadoop's libhdfs on this machine; set JAVA_HOME and HADOOP_HOME"),
)


def is_url(text: object) -> bool:
    """Whether a source or target is a URL, and no path."""
    return isinstance(text, str) and _URL.match(text) is not None


def without_secret(url: str) -> str:
    """A URL for messages and files: without a key that stands before the host."""
    return re.sub(r"(?<=://)[^/@?]*:[^/@?]*@", "", url)


@dataclass(frozen=True)
class Remote:
    """A file or folder of a file system of pyarrow.

    Args:
        fs: the file system.
        path: the path there.
        scheme: of its URL.
        stat: size and time of change of a file that was listed or found, for signatures.
    """

    fs: Any
    path: str
    scheme: str
    stat: str = ""

    def __str__(self) -> str:
        return f"{self.scheme}://{self.path}"

    @property
    def name(self) -> str:
        """The last part of the path."""
        return self.path.rpartition("/")[2]

    @property
    def suffix(self) -> str:
        """Of the name, in small letters, such as ``.parquet``."""
        return os.path.splitext(self.name)[1].lower()

    def below(self, name: str) -> "Remote":
        """A file or folder in this folder."""
        return replace(self, path=f"{self.path.rstrip('/')}/{name}", stat="")

    def found(self) -> "Remote | None":
        """The file with its size and time; None where there is none.

        Raises LikewiseError when the service does not answer.
        """
        with self.said():
            info = self.fs.get_file_info(self.path)
        return self._told(info) if info.is_file else None

    def is_file(self) -> bool:
        """Whether there is a file. Raises LikewiseError when the service does not answer."""
        return self.found() is not None

    def _told(self, info: Any) -> "Remote":
        return replace(self, path=info.path, stat=f"{info.size} {info.mtime_ns}")

    def files(self, *, recursive: bool = True) -> list["Remote"]:
        """The files in this folder, sorted by path; none where there is no folder.

        Raises LikewiseError when the service does not answer, or there is no such bucket.
        """
        from pyarrow import fs

        with self.said():
            infos = self.fs.get_file_info(fs.FileSelector(self.path, recursive=recursive, allow_not_found=True))
        return sorted((self._told(info) for info in infos if info.is_file), key=lambda file: file.path)

    @contextmanager
    def opened(self) -> Iterator[Any]:
        """The file, open for reading at any place. Raises FileNotFoundError when there is none."""
        with self.said():
            file = self.fs.open_input_file(self.path)
        with file:
            yield file

    def read(self) -> bytes:
        """All bytes. Raises FileNotFoundError when there is no file, LikewiseError when it can't be read."""
        with self.said(), self.fs.open_input_stream(self.path) as file:
            return bytes(file.read())

    def write(self, content: bytes) -> None:
        """A file with these bytes, whole or not at all. Raises LikewiseError when it can't be written."""
        place = self if self.fs.type_name in WHOLE else replace(self, path=f"{self.path}.tmp")
        with self.said():
            with place.fs.open_output_stream(place.path) as file:
                file.write(content)
            if place is not self:
                self.fs.move(place.path, self.path)

    def remove(self) -> None:
        """Removes the file."""
        with self.said():
            self.fs.delete_file(self.path)

    @contextmanager
    def said(self) -> Iterator[None]:
        """Raises LikewiseError in place of the file system's errors, but FileNotFoundError."""
        try:
            yield
        except FileNotFoundError:
            raise
        except OSError as error:
            raise LikewiseError(_in_words(str(self), str(error))) from None


def open_url(url: str) -> Remote:
    """What a URL names; whether it is there is not looked at.

    Raises LikewiseError on a scheme that is not known or that this pyarrow was built without, and on a URL without a
    bucket or host.
    """
    import pyarrow as pa
    from pyarrow import fs

    parts = urlsplit(url)
    scheme, shown = parts.scheme.lower(), without_secret(url)
    if scheme not in SCHEMES:
        raise LikewiseError(f"{shown} is of a scheme that is not known. Known are s3://, gs:// and hdfs://.")
    options = [parts.query] if parts.query else []
    options += [_PATIENCE] if scheme in ("gs", "gcs") and "retry_limit_seconds" not in parts.query else []
    whole = urlunsplit((scheme, parts.netloc, quote(parts.path, safe="/%"), "&".join(options), ""))
    try:
        system, path = fs.FileSystem.from_uri(whole if parts.netloc else url)
    except (pa.ArrowNotImplementedError, ImportError) as error:
        raise LikewiseError(
            f"this pyarrow has no file system for {scheme}:// ({_first(str(error))}); install another build of it."
        ) from None
    except (pa.ArrowException, OSError, ValueError) as error:
        raise LikewiseError(_in_words(shown, str(error))) from None
    if not path.strip("/"):
        raise LikewiseError(f"{shown} names no bucket or folder; write {scheme}://BUCKET/FOLDER/.")
    return Remote(system, path, scheme)


def _in_words(shown: str, message: str) -> str:
    advice = next((words for sign, words in _ADVICE if sign in message), None)
    if advice is not None:
        return f"{shown}: {advice}."
    return f"{shown}: {_first(message)}; correct the URL, or what the environment says of the service."


def _first(message: str) -> str:
    """The first line of a message, without the request's number."""
    return shortened(re.sub(r" \(Request ID: .*?\)", "", message.partition("\n")[0]).strip(" ."), 240)
