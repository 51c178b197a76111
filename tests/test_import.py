"""``import likewise`` and its parts load torch and numpy, and take hardly longer to import than torch."""

import ast
import importlib
import importlib.util
import json
import os
import pkgutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import likewise

ALLOWED = {"likewise", "numpy", "torch"}  # and what these two load themselves

MEASURE = """
import json, sys, time

def loaded():
    names = {name.partition(".")[0] for name, module in sys.modules.items() if module is not None}
    return names - sys.stdlib_module_names

at_start = loaded()
start = time.perf_counter()
import torch, numpy
torchs = time.perf_counter()
before = loaded()
import likewise as lw
parts = (lw.objectives.NCE, lw.objectives.NonParametricSoftmax, lw.objectives.ParametricSoftmax, lw.MemoryBank,
         lw.Views, lw.build_embedder, lw.FitSettings)
more = time.perf_counter()
lw.build_embedder(lw.FitSettings().encoder)
print(json.dumps({
    "torch": torchs - start, "more": more - torchs, "loaded": sorted(loaded() - before),
    "early": sorted(at_start & {"torch", "numpy", "likewise"}),
}))
"""


def python(code: str) -> Any:
    """What a fresh process prints, as JSON."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.fixture(scope="module")
def measured() -> list[dict[str, Any]]:
    """Three fresh processes: other work on the machine can only add to the seconds."""
    return [python(MEASURE) for _ in range(3)]


def test_the_parts_load_torch_and_numpy_only(measured: list[dict[str, Any]]) -> None:
    for process in measured:
        assert process["early"] == []
        assert set(process["loaded"]) - ALLOWED == set()


def test_importing_takes_hardly_longer_than_torch(measured: list[dict[str, Any]]) -> None:
    torchs, more = (min(float(process[name]) for process in measured) for name in ("torch", "more"))
    assert (torchs + more) / torchs <= 1.2, f"{more:.2f} s on top of {torchs:.2f} s for torch"


def test_the_bare_import_loads_nothing_at_all() -> None:
    code = "import sys, json; before = set(sys.modules); import likewise; print(json.dumps([*{*sys.modules} - before]))"
    third = {name.partition(".")[0] for name in python(code)} - sys.stdlib_module_names
    assert third == {"likewise"}


def test_no_module_takes_the_name_of_a_function() -> None:
    # Importing a submodule sets its name on the package: ``likewise.fit`` would be a module for whoever did so.
    modules = {module.name for module in pkgutil.iter_modules(likewise.__path__)}
    assert modules & set(likewise.__all__) == {"metrics", "negatives", "objectives"}  # which are the modules


def test_every_public_name_is_there_and_a_wrong_one_is_an_attribute_error() -> None:
    for name in likewise.__all__:
        assert name in dir(likewise)
        assert likewise.__getattr__(name) is not None
    assert set(likewise.__all__) == {*likewise._HOME, *likewise._MODULES}
    with pytest.raises(AttributeError, match=r"module 'likewise' has no attribute 'MemoryBanks'. Did you mean 'Mem"):
        likewise.__getattr__("MemoryBanks")


def test_what_type_checkers_read_is_what_is_loaded() -> None:
    assert likewise.__file__ is not None
    tree = ast.parse(Path(likewise.__file__).read_text())
    (block,) = (node for node in tree.body if isinstance(node, ast.If))
    imports = [node for node in block.body if isinstance(node, ast.ImportFrom)]
    found = {alias.asname or alias.name: node.module for node in imports for alias in node.names}
    renamed = {alias.asname: alias.name for node in imports for alias in node.names if alias.asname}
    wanted = {name: f"likewise.{home}" for name, home in likewise._HOME.items()}
    modules = {name: f"likewise.{home}".rpartition(".")[0] for name, home in likewise._MODULES.items()}
    assert found == wanted | modules
    assert renamed == likewise._FORMERLY


def test_a_name_of_before_is_another_name_of_the_same() -> None:
    assert likewise.evaluate_retrieval is likewise.retrieve


@pytest.mark.parametrize("folder", ["benchmarks", "docs", "papers"])
def test_what_scripts_import_from_likewise_is_there(folder: str) -> None:
    """No other test runs most of them."""
    for script in sorted((Path(__file__).parents[1] / folder).glob("*.py")):
        for node in ast.walk(ast.parse(script.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "likewise":
                module = importlib.import_module(str(node.module))
                for name in node.names:
                    folder_of = "__path__" in vars(module)  # else it has no modules
                    there = name.name in {*vars(module), *dir(module)}
                    there = there or (folder_of and importlib.util.find_spec(f"{node.module}.{name.name}") is not None)
                    assert there, (script.name, node.module, name.name)
