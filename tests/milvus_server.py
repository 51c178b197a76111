"""A real server of Milvus for tests, from the wheel milvus. It ends with the tests."""

import importlib.util
import os
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

NOT_TESTED = "not tested: an index on Milvus"
TOKEN = "root:Milvus"  # as a new server has it
ALONE = (["unshare", "--net"], ["unshare", "--user", "--map-root-user", "--net"])  # as root, and else


class Server:
    """A server that asks for a user and a password."""

    def __init__(self, alone: list[str], folder: Path) -> None:
        self._outside = socket.create_server(("127.0.0.1", 0))
        self.port = self._outside.getsockname()[1]
        script, number = Path(__file__).with_name("milvus_in_namespace.py"), self._outside.fileno()
        with open(folder / "log", "ab") as log:
            self._process = subprocess.Popen(
                [*alone, sys.executable, script, str(number), folder],
                pass_fds=[number],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
            )

    def __str__(self) -> str:
        return f"127.0.0.1:{self.port}"

    def ready(self) -> bool:
        """Waits until it answers; False if it does not start."""
        assert self._process.stdout is not None
        return self._process.stdout.readline() == b"ready\n"

    def stop(self) -> None:
        """Ends the server."""
        assert self._process.stdin is not None
        self._outside.close()
        self._process.stdin.close()
        self._process.wait()


@contextmanager
def server() -> Iterator[Server]:
    """A new server. Skips the test, and says what was not tested, where it can't be had."""
    for name in ("milvus", "pymilvus"):
        if importlib.util.find_spec(name) is None:
            pytest.skip(f"{NOT_TESTED}; pip install milvus pymilvus")
    alone = next((words for words in ALONE if shutil.which(words[0]) and not subprocess.call([*words, "true"])), None)
    if alone is None:
        pytest.skip(f"{NOT_TESTED}: it listens on all addresses, and a network of its own can't be had here (unshare)")
    folder = Path(tempfile.mkdtemp(prefix="likewise-milvus-"))
    started = Server(alone, folder)
    try:
        if not started.ready():
            pytest.skip(f"{NOT_TESTED}: it does not start here ({(folder / 'log').read_text()[-200:]!r})")
        os.environ["MILVUS_TOKEN"] = TOKEN
        yield started
    finally:
        os.environ.pop("MILVUS_TOKEN", None)
        started.stop()
        shutil.rmtree(folder, ignore_errors=True)
