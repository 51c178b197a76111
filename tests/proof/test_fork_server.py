"""The fork server: its processes do what the interpreter's do, and none outlives those who asked for it."""

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from likewise.proof import fork_client, fork_server
from likewise.proof.fork_server import python, serve

SCRIPT = "import sys\nfrom beside import x\nprint(__name__, sys.argv[1:], x)\n"
SLEEPS = "import os, time; print(os.getpid(), flush=True); time.sleep(100)"
STOPS = f"""
import signal
signal.signal(signal.SIGINT, signal.default_int_handler)  # in the background of a shell it is ignored
try:
    {SLEEPS}
except KeyboardInterrupt:
    print("stopped", flush=True)
"""
COMMANDS: dict[str, Sequence[str]] = {
    "code": ["-c", "import sys; print(__name__, sys.argv)", "a", "--b"],
    "module": ["-m", "json.tool", "values.json"],
    "script": ["script.py", "a", "--b"],
    "unbuffered": ["-u", "-c", "print('out')"],
    "own environment and folder": ["-c", "import os; print(os.environ['SAID'], os.path.basename(os.getcwd()))"],
    "own module path": ["-c", "import elsewhere; print(elsewhere.x)"],
    "standard input": ["-c", "import sys; print(sys.stdin.read())"],
    "exit code": ["-c", "import sys; print('said'); sys.exit(7)"],
    "exit with a sentence": ["-c", "import sys; sys.exit('that was wrong')"],
    "error": ["-c", "raise ValueError('that was wrong')"],
    "killed": ["-c", "import os, signal; os.kill(os.getpid(), signal.SIGKILL)"],
}


@pytest.mark.parametrize("name", COMMANDS)
def test_it_does_what_the_interpreter_does(name: str, tmp_path: Path) -> None:
    (tmp_path / "values.json").write_text("[1]")
    (tmp_path / "script.py").write_text(SCRIPT)
    (tmp_path / "beside.py").write_text("x = 'beside'")
    (tmp_path / "more").mkdir()
    (tmp_path / "more" / "elsewhere.py").write_text("x = 'elsewhere'")
    ended = [
        subprocess.run(
            [*command, *COMMANDS[name]],
            input="told",
            capture_output=True,
            text=True,
            cwd=tmp_path,
            env={**os.environ, "SAID": "ä", "PYTHONPATH": str(tmp_path / "more")},
        )
        for command in ([sys.executable], python())
    ]
    assert ended[1].returncode == ended[0].returncode, ended[1].stderr
    assert ended[1].stdout == ended[0].stdout
    assert ended[1].stderr.splitlines()[-1:] == ended[0].stderr.splitlines()[-1:]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["-u", "-c", "import sys; print(sys.argv)", "a"], "['-c', 'a']"),
        (["script.py", "a"], "__main__ ['a'] beside"),
        (["-m", "script", "b"], "__main__ ['b'] beside"),
    ],
    ids=["code", "script", "module"],
)
def test_arguments_are_run_as_the_interpreter_runs_them(
    arguments: list[str],
    said: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    """In this process."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(sys, "argv", [])
    Path("script.py").write_text(SCRIPT)
    Path("beside.py").write_text("x = 'beside'")
    fork_server._run(arguments)
    assert capfd.readouterr().out == f"{said}\n"


def test_a_client_ends_as_its_process_does(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """In this process, whose handlers of signals it takes."""
    ends = list[int]()
    monkeypatch.setattr(fork_client.os, "kill", lambda _, number: ends.append(number))
    before = {number: signal.getsignal(number) for number in fork_client.PASSED_ON}
    try:
        assert fork_client.main(python()[-1], "-c", "import sys; print('said'); sys.exit(5)") == 5
        fork_client.main(python()[-1], *COMMANDS["killed"])
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    assert ends == [signal.SIGKILL]
    assert capfd.readouterr().out == "said\n"


def started(code: str) -> "tuple[subprocess.Popen[str], int]":
    """A process and, as it says itself, its number."""
    client = subprocess.Popen([*python(), "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert client.stdout is not None
    return client, int(client.stdout.readline())


def gone(number: int) -> bool:
    """Whether a process ends within a while."""
    until = time.monotonic() + 20
    while time.monotonic() < until:
        try:
            os.kill(number, 0)
        except ProcessLookupError:
            return True
        time.sleep(0.01)
    return False


def test_signals_are_passed_on() -> None:
    client, number = started(SLEEPS)
    client.terminate()
    assert client.wait(20) == -signal.SIGTERM
    assert gone(number)
    client, number = started(STOPS)
    client.send_signal(signal.SIGINT)
    assert client.communicate(timeout=20) == ("stopped\n", "")
    assert client.returncode == 0


def test_a_killed_client_takes_its_process_along() -> None:
    client, number = started(SLEEPS)
    client.kill()
    client.communicate()
    assert gone(number)


def test_at_the_end_the_server_is_waited_for() -> None:
    server = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE, stderr=subprocess.DEVNULL)
    fork_server._stop(server)
    assert server.returncode == 1


PARENT = """
import subprocess, sys, time
from likewise.proof import fork_server
fork_server.SERVER = fork_server.SERVER.replace("import likewise.proof.jobs", "").replace("import torch._dynamo", "")
command = fork_server.python()
child = subprocess.Popen([*command, "-c", sys.argv[1]], stdout=subprocess.PIPE, text=True)
print(command[-1], child.stdout.readline(), sep="\\n", end="", flush=True)
time.sleep(100)
"""


def test_the_server_ends_with_the_process_that_started_it() -> None:
    parent = subprocess.Popen([sys.executable, "-c", PARENT, SLEEPS], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    address, number = Path(parent.stdout.readline().strip()), int(parent.stdout.readline())
    assert address.exists()
    parent.kill()
    parent.communicate()
    assert gone(number)
    until = time.monotonic() + 20
    while address.parent.exists() and time.monotonic() < until:
        time.sleep(0.01)
    assert not address.parent.exists()


def test_a_server_serves_several_and_stops_when_told(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """In this process: what is asked at once is served at once."""
    address, (ends, open_end) = str(tmp_path / "server"), os.pipe()
    command = [sys.executable, fork_client.__file__, address, "-c"]
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(address)
        listener.listen()
        codes = ["import sys; sys.exit(3)", "import time; time.sleep(0.2); print('late')", SLEEPS, SLEEPS]
        clients = [subprocess.Popen([*command, code], stdout=subprocess.PIPE, text=True) for code in codes]

        def act() -> None:
            try:
                ended.append(clients[0].wait(60))
                ended.append(clients[1].communicate(timeout=60)[0])
                for client in clients[2:]:
                    assert client.stdout is not None
                    client.stdout.readline()
                clients[2].terminate()
                ended.append(clients[2].wait(60))
            finally:
                os.write(open_end, b"!")  # a forked process holds it open

        ended: list[object] = []
        acting = threading.Thread(target=act)
        acting.start()
        with capfd.disabled():  # the forked processes print to their own streams
            serve(listener, ends)
        acting.join()
    os.close(ends)
    os.close(open_end)
    assert ended == [3, "late\n", -signal.SIGTERM]
    assert clients[3].wait(20) == 1  # its server is gone


def test_where_forks_are_unsafe_it_is_the_interpreter(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fork_server.sys, "platform", "darwin")
    assert python() == (sys.executable,)
