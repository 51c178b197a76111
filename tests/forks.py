"""Several processes that run one function of a test file together."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from likewise.proof.fork_server import python

LIMIT = 300.0  # seconds


def run_together(work: Callable[[int, int, Path], None], count: int, folder: Path) -> None:
    """Has ``count`` processes call ``work(rank, count, folder)``; raises with what they said where one fails."""
    function, module = work.__name__, work.__module__
    code = f"import sys, pathlib, {module}; {module}.{function}(int(sys.argv[1]), {count}, pathlib.Path(sys.argv[2]))"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    commands = [[*python(), "-c", code, str(rank), str(folder)] for rank in range(count)]
    running = [subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True) for command in commands]
    try:
        said = [process.communicate(timeout=LIMIT)[1] for process in running]
    finally:
        for process in running:
            process.kill()
    assert not any(process.returncode for process in running), "\n".join(said)
