"""``python -m likewise`` and the command ``likewise``: the process around the command line."""

import os
import signal
import sys
from types import FrameType

# Turns for which torch's threads wait before they leave their core to others; by default hundreds of thousands. On two
# quiet cores a convolution took as long as by default; beside a busy loop it was 1.3 times as fast.
SPINS = "10000"


def main() -> int:
    """Runs the command line and returns its exit code. Ctrl-C at any time gives one line and exit code 130."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # a job in the background ignores it
        signal.signal(signal.SIGINT, _stop)
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", SPINS)
    from likewise.cli.streams import prepare_streams

    prepare_streams()
    from likewise.cli.main import main as run

    try:
        return run()
    finally:
        signal.signal(signal.SIGINT, signal.SIG_DFL)  # all is done: the interpreter only has to end


def _stop(number: int, frame: FrameType | None) -> None:
    """Raises KeyboardInterrupt; while modules load, exits at once, for not all of them let the exception through."""
    while frame is not None:
        if frame.f_code.co_filename.startswith("<frozen importlib"):
            os.write(2, b"likewise: stopped.\n")
            os._exit(130)
        frame = frame.f_back
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main())
