"""What every test starts from: one thread, blocks of memory that are kept, random numbers, signals, an own cache."""

import os
import signal

os.environ["OMP_NUM_THREADS"] = "1"  # before torch is loaded, and for every process that a test starts

import pytest
import torch

from likewise.kernels.numerics import keep_pages

torch.set_num_threads(1)  # the same sums in the same order here and in the processes that are started
keep_pages()

# A suite in the background, or under nohup, ignores these, and so would every process that it starts.
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGHUP, signal.SIG_DFL)
signal.signal(signal.SIGQUIT, signal.SIG_DFL)


@pytest.fixture(autouse=True, scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Decoded images never go to the user's own folder."""
    os.environ["LIKEWISE_CACHE"] = str(tmp_path_factory.mktemp("cache"))


@pytest.fixture(autouse=True)
def seeded() -> None:
    """A test alone sees the numbers that it sees among others."""
    torch.manual_seed(0)
