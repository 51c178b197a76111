# Two commands do everything, set-up included: `make demo` and `make test`.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: setup demo test test-all lint package docs lock clean

setup: .venv/.done

# The lock pins every version; the project itself is installed from this folder, editable.
.venv/.done: requirements.lock pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --requirement requirements.lock
	$(BIN)/python -m pip install --quiet --no-deps --editable .
	touch $@

demo: setup
	$(BIN)/likewise demo --out runs/demo

# Two processes, each with whole files of tests, for what a file prepares is most of its time.
PYTEST := $(BIN)/python -m pytest --numprocesses 2 --dist loadfile --no-loadscope-reorder

test: lint
	$(PYTEST)

# With the whole product of dictionaries, objectives and ways to train.
test-all: lint
	$(PYTEST) -m ""

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# The source distribution and the wheel, in dist/. The wheel is unpacked and used, and its README links to no file.
package: setup
	rm -rf dist
	$(BIN)/python -m build --no-isolation >/dev/null
	$(BIN)/python -m pip install --quiet --no-deps --target dist/unpacked dist/*.whl
	cd dist/unpacked && PYTHONPATH=$$PWD $(abspath $(BIN))/python -c \
		"import likewise, pathlib; assert pathlib.Path(likewise.__file__).is_relative_to(pathlib.Path.cwd()); likewise.fit"
	PYTHONPATH=dist/unpacked $(BIN)/python -m likewise objectives circle >/dev/null
	! grep -nE '\]\((docs/|[A-Z]+\.md)' dist/unpacked/likewise-*.dist-info/METADATA
	ls -l dist/*.whl dist/*.tar.gz

# After changing an objective or its docstring, or an import: docs/objectives.md with its figures, docs/layers.svg.
docs: setup
	$(BIN)/python docs/generate_objectives.py --figures
	$(BIN)/python docs/draw_layers.py

# After changing dependencies in pyproject.toml: a fresh environment of the newest versions, written down.
lock:
	rm -rf .venv-lock && $(PYTHON) -m venv .venv-lock
	.venv-lock/bin/python -m pip install --quiet "pip>=25.1"
	.venv-lock/bin/python -m pip install --quiet torch==2.13.0 --editable ".[completion,demo,export,faiss,graph,hf,lightning,map,milvus,plot,postgresql,ray,recommend,serve,tb]" --group dev
	echo "# Exact versions of everything that development and CI use; made with: make lock" > requirements.lock
	.venv-lock/bin/python -m pip freeze --exclude-editable | sed 's/+cpu//' >> requirements.lock
	rm -rf .venv-lock

clean:
	rm -rf .venv runs dist
