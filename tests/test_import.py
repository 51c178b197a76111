"""``import likewise`` and its parts load torch and numpy, and are as quick to import as torch."""

import json
import os
import subprocess
import sys

import pytest

import likewise

ALLOWED = {"likewise", "numpy", "torch"}  # and what torch itself loads

PARTS = """
import likewise as lw
parts = (lw.objectives.NCE, lw.objectives.NonParametricSoftmax, lw.objectives.ParametricSoftmax, lw.MemoryBank,
         lw.Views, lw.build_embedder, lw.FitSettings)
embedder = lw.build_embedder(lw.FitSettings().encoder)
"""

BARE = "import torch, numpy"

LOADED = """
import json, sys
standard = sys.stdlib_module_names
names = {name.partition(".")[0] for name, module in sys.modules.items() if module is not None}
print(json.dumps(sorted(name for name in names if name not in standard and name != "__main__")))
"""


def python(code: str) -> str:
    """What a fresh process prints; it sees no plug-ins of the test runner."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def torch_alone() -> set[str]:
    return set(json.loads(python(BARE + LOADED)))


def test_parts_load_torch_and_numpy_only(torch_alone: set[str]) -> None:
    loaded = set(json.loads(python(BARE + PARTS + LOADED)))
    assert {"likewise", "torch", "numpy"} <= loaded
    assert loaded - torch_alone - ALLOWED == set()


def test_the_bare_import_loads_nothing_at_all() -> None:
    loaded = set(json.loads(python("import likewise" + LOADED)))
    assert "likewise" in loaded
    assert not {"torch", "numpy", "PIL", "pyarrow", "rich", "yaml", "jsonargparse", "safetensors"} & loaded


SECONDS = """
import time
start = time.perf_counter()
{}
torchs = time.perf_counter()
{}
print(torchs - start, time.perf_counter() - torchs)
"""


def test_importing_takes_hardly_longer_than_torch() -> None:
    code = SECONDS.format(BARE, PARTS.partition("embedder =")[0])
    seconds = [tuple(map(float, python(code).split())) for _ in range(3)]  # other work on the machine can only add
    torchs, more = min(pair[0] for pair in seconds), min(pair[1] for pair in seconds)
    assert (torchs + more) / torchs <= 1.2, f"{more:.2f} s on top of {torchs:.2f} s for torch"


def test_every_public_name_is_there_and_a_wrong_one_is_an_attribute_error() -> None:
    for name in likewise.__all__:
        assert name in dir(likewise)
        assert likewise.__getattr__(name) is not None
    assert set(likewise.__all__) == set(likewise._HOME)
    with pytest.raises(AttributeError, match="module 'likewise' has no attribute 'MemoryBanks'"):
        likewise.__getattr__("MemoryBanks")
