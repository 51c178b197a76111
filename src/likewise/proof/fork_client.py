"""The client of ``fork_server``: a script that starts in 20 ms, because it imports few modules."""

import json
import os
import signal
import socket
import sys
from contextlib import suppress
from types import FrameType

PASSED_ON = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def main(address: str, *arguments: str) -> int:
    """Asks the server for a process with ``arguments`` and this process' environment, folder and streams.

    Passes signals on to it, and returns its exit code.
    """
    with socket.socket(socket.AF_UNIX) as server:

        def pass_on(number: int, _: FrameType | None) -> None:
            server.send(bytes([number]))

        signal.pthread_sigmask(signal.SIG_BLOCK, PASSED_ON)  # until the server has the request
        server.connect(address)
        request = {"arguments": arguments, "environment": dict(os.environ), "folder": os.getcwd()}
        socket.send_fds(server, [b"3"], [0, 1, 2])
        server.sendall(json.dumps(request).encode() + b"\n")
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
