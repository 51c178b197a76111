"""Python processes that start in milliseconds: a server imports torch once, and forks a process for each command.

The command ``[*python(), "script.py", "--option"]`` does what ``[sys.executable, "script.py", "--option"]`` does, with
the same arguments, environment, folder, streams, signals and exit code. It starts the small script ``fork_client``,
which sends these to the server, passes signals on, and ends with the exit code of the forked process. After its start
the server imports and computes nothing, because threads do not survive a fork.
"""

import atexit
import gc
import json
import multiprocessing
import os
import runpy
import signal
import socket
import subprocess
import sys
import tempfile
from contextlib import suppress
from functools import cache
from multiprocessing.connection import wait
from multiprocessing.context import ForkProcess
from pathlib import Path
from typing import Any

SERVER = """
import os, shutil, socket, sys
import likewise.proof.jobs
import torch._dynamo  # the first step of an optimizer imports it
from likewise.proof.fork_server import serve
serve(socket.socket(fileno=int(sys.argv[1])), sys.stdin.fileno())
shutil.rmtree(sys.argv[2], ignore_errors=True)
os._exit(0)
"""


def python() -> tuple[str, ...]:
    """The command that starts Python. It accepts the options ``-u``, ``-c`` and ``-m``.

    The first call starts the server, which ends with this process. Libraries that read the environment when they are
    imported see the environment of that time. On systems other than Linux, where libraries do not allow forks, it is
    the ordinary interpreter.
    """
    if not sys.platform.startswith("linux"):
        return (sys.executable,)
    return (sys.executable, "-I", "-S", str(Path(__file__).with_name("fork_client.py")), _server()[0])


@cache
def _server() -> tuple[str, subprocess.Popen[bytes]]:
    """The address of the server, and its process, which ends when its standard input is closed."""
    folder = tempfile.mkdtemp(prefix="likewise-")  # only this user can connect
    path = os.pathsep.join(filter(None, sys.path))
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(f"{folder}/server")
        listener.listen()
        process = subprocess.Popen(
            [sys.executable, "-c", SERVER, str(listener.fileno()), folder],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            pass_fds=[listener.fileno()],
            env=os.environ | {"PYTHONPATH": path, "OMP_NUM_THREADS": "1"},
            start_new_session=True,  # so that Ctrl-C does not reach it
        )
    atexit.register(_stop, process)
    return f"{folder}/server", process


def _stop(server: subprocess.Popen[bytes]) -> None:
    assert server.stdin is not None
    server.stdin.close()
    server.wait()


def serve(listener: socket.socket, ends: int) -> None:
    """Forks a process for each client, until the stream ``ends`` is closed. Then kills those that still run."""
    gc.freeze()  # garbage collection in the processes skips the imported objects
    fork = multiprocessing.get_context("fork")
    processes: dict[socket.socket, ForkProcess] = {}
    while True:
        sentinels = [process.sentinel for process in processes.values()]
        ready = wait([ends, listener, *processes, *sentinels])
        if ends in ready:
            break
        for client, process in list(processes.items()):
            if process.sentinel in ready:
                process.join()
                with client, suppress(OSError):
                    client.sendall(b"%d\n" % (process.exitcode or 0))
                del processes[client]
            elif client in ready:
                number = client.recv(1)
                assert process.ident is not None
                os.kill(process.ident, number[0] if number else signal.SIGKILL)  # without a number the client is dead
        if listener in ready:
            client, _ = listener.accept()
            _, streams, _, _ = socket.recv_fds(client, 1, 3)
            with client.makefile("rb") as file:
                request = json.loads(file.readline())
            processes[client] = fork.Process(target=_forked, args=(request, streams, [listener, *processes, client]))
            processes[client].start()
            for stream in streams:
                os.close(stream)
    for process in processes.values():
        process.kill()


def _forked(request: dict[str, Any], streams: list[int], servers: list[socket.socket]) -> None:
    """Runs in the forked process: takes over the client's streams, folder and environment, then runs its command."""
    for connection in servers:
        connection.close()
    for place, stream in enumerate(streams):
        os.dup2(stream, place)
        os.close(stream)
    sys.stdin = open(0, encoding="utf-8", closefd=False)  # noqa: SIM115 (multiprocessing has replaced it)
    os.chdir(request["folder"])
    os.environ.clear()
    os.environ.update(request["environment"])
    sys.path[:0] = filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))
    _run(request["arguments"])


def _run(arguments: list[str]) -> None:
    """Does what the Python interpreter does with these arguments."""
    if arguments[0] == "-u":
        for stream in (sys.stdout, sys.stderr):
            stream.reconfigure(write_through=True)  # type: ignore[union-attr]
        arguments = arguments[1:]
    option, *rest = arguments
    if option == "-c":
        sys.argv = ["-c", *rest[1:]]
        sys.path.insert(0, "")
        exec(compile(rest[0], "<string>", "exec"), vars(sys.modules["__main__"]))
    elif option == "-m":
        sys.argv = rest
        sys.path.insert(0, os.getcwd())
        runpy.run_module(rest[0], run_name="__main__", alter_sys=True)
    else:
        sys.argv = [option, *rest]
        sys.path.insert(0, os.path.dirname(os.path.abspath(option)))
        runpy.run_path(option, run_name="__main__")
