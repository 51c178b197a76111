"""Python processes that start in milliseconds: a server imports torch once, and forks a process for each command.

The command ``[*python(), "script.py", "--option"]`` does what ``[sys.executable, "script.py", "--option"]`` does, with
the same arguments, environment, folder, streams, signals and exit code. What starts is the small ``fork_client``, which
hands these to the server, passes signals on, and ends as the forked process ends. The server imports and computes
nothing, for threads do not live through a fork.
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
import torch._dynamo  # what an optimizer's first step imports
from likewise.proof.fork_server import serve
serve(socket.socket(fileno=int(sys.argv[1])), sys.stdin.fileno())
shutil.rmtree(sys.argv[2], ignore_errors=True)
os._exit(0)
"""


def python() -> tuple[str, ...]:
    """The command to start Python with. Its options are ``-u``, ``-c`` and ``-m``.

    The first call starts the server, which ends with this process. Its environment is this process' of that time, as
    far as libraries read it when they are imported. Elsewhere than on Linux libraries do not allow forks, and this is
    the plain interpreter.
    """
    if not sys.platform.startswith("linux"):
        return (sys.executable,)
    return (sys.executable, "-I", "-S", str(Path(__file__).with_name("fork_client.py")), _server()[0])


@cache
def _server() -> tuple[str, subprocess.Popen[bytes]]:
    """Where the server listens, and its process: it ends when the other end of its standard input is closed."""
    folder = tempfile.mkdtemp(prefix="likewise-")  # only this user may connect
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
            start_new_session=True,  # Ctrl-C is for its clients
        )
    atexit.register(_stop, process)
    return f"{folder}/server", process


def _stop(server: subprocess.Popen[bytes]) -> None:
    assert server.stdin is not None
    server.stdin.close()
    server.wait()


def serve(listener: socket.socket, ends: int) -> None:
    """Forks a process for each client, until the stream ``ends`` is closed. Kills what then still runs."""
    gc.freeze()  # what is imported is never free: no process need look for that
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
                os.kill(process.ident, number[0] if number else signal.SIGKILL)  # it does not outlive its client
        if listener in ready:
            client, _ = listener.accept()
            _, streams, _, _ = socket.recv_fds(client, 1, 3)
            with client.makefile("rb") as file:
                asked = json.loads(file.readline())
            processes[client] = fork.Process(target=_forked, args=(asked, streams, [listener, *processes, client]))
            processes[client].start()
            for stream in streams:
                os.close(stream)
    for process in processes.values():
        process.kill()


def _forked(asked: dict[str, Any], streams: list[int], servers: list[socket.socket]) -> None:
    """The process that a client asked for."""
    for connection in servers:
        connection.close()
    for place, stream in enumerate(streams):
        os.dup2(stream, place)
        os.close(stream)
    sys.stdin = open(0, encoding="utf-8", closefd=False)  # noqa: SIM115 (multiprocessing has made it another)
    os.chdir(asked["folder"])
    os.environ.clear()
    os.environ.update(asked["environment"])
    sys.path[:0] = filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))
    _run(asked["arguments"])


def _run(arguments: list[str]) -> None:
    """Does what ``python`` does with such arguments."""
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
