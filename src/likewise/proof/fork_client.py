"""Stands for a process of ``fork_server``: a script that starts in 20 ms, since it imports hardly anything."""

import json
import os
import signal
import socket
import sys
from contextlib import suppress
from types import FrameType

PASSED_ON = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def main(address: str, *arguments: str) -> int:
    """Asks for a process with ``arguments`` and this one's environment, folder and streams; returns its exit code."""
    with socket.socket(socket.AF_UNIX) as server:

        def pass_on(number: int, _: FrameType | None) -> None:
            server.send(bytes([number]))

        signal.pthread_sigmask(signal.SIG_BLOCK, PASSED_ON)  # until the server knows what is asked
        server.connect(address)
        asked = {"arguments": arguments, "environment": dict(os.environ), "folder": os.getcwd()}
        socket.send_fds(server, [b"3"], [0, 1, 2])
        server.sendall(json.dumps(asked).encode() + b"\n")
        for number in PASSED_ON:
            signal.signal(number, pass_on)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, PASSED_ON)
        with server.makefile("rb") as answer:
            code = int(answer.readline() or 1)
    if code < 0:
        with suppress(OSError, ValueError):
            signal.signal(-code, signal.SIG_DFL)
        os.kill(os.getpid(), -code)
    return code


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
