# `make demo` and `make test` set up a bare machine by themselves: they need Python 3.11-3.13, make and a package index.
SHELL := /bin/sh
VENV ?= .venv
PYTHON ?= $(shell for candidate in python3 python3.11 python3.12 python3.13; do \
	$$candidate -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' 2>/dev/null && echo $$candidate && break; done)
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check install --quiet --no-compile

# Two processes with one thread each: two threads each would fight over two cores.
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q --numprocesses 2 --dist loadfile

.PHONY: demo test test-all check benchmark docs lock clean

demo: $(VENV)/.ready ## run the quickstart study and print its table
	$(BIN)/bertpress run studies/quickstart.yaml

test: check ## static checks and the default test suite
	$(PYTEST) --cov --cov-report=term:skip-covered

test-all: check ## the default suite and the slow tests
	$(PYTEST) -m "slow or not slow"

check: $(VENV)/.ready ## ruff, mypy, import-linter
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

benchmark: $(VENV)/.ready ## measured ratios, each pair in one interleaved run; an hour on two cores
	$(BIN)/python -m benchmarks.orchestration
	$(BIN)/python -m benchmarks.architecture
	$(BIN)/python -m benchmarks.pruning
	$(BIN)/python -m benchmarks.masked_lm_head
	$(BIN)/python -m benchmarks.augmentation

lock: ## resolve pyproject.toml's ranges into requirements.lock, for Python 3.11-3.13 on every platform (needs uv)
	uv pip compile --quiet --universal --python-version 3.11 --all-extras --no-annotate --no-header pyproject.toml \
		| grep -vE '^(nvidia|cuda|triton|torch==)' > requirements.lock.new
	echo "torch==2.13.0" >> requirements.lock.new
	mv requirements.lock.new requirements.lock

clean: ## remove the environment and what tools left behind
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis build *.egg-info

# torch comes first and alone, with its own dependencies: where the index or a local folder has the CPU build, pip takes
# it; the default Linux build brings several gigabytes of CUDA. Everything else is exactly what the lock names.
$(VENV)/.ready: requirements.lock pyproject.toml
	@test -n "$(PYTHON)" || { echo "bertpress needs Python 3.11, 3.12 or 3.13 on PATH (or: make PYTHON=/path/to/python)"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(PIP) torch==2.13.0
	$(PIP) --no-deps --requirement requirements.lock
	$(PIP) --no-deps --no-build-isolation --editable .
	# pip compiles one file after another; and where PYTHONDONTWRITEBYTECODE is set, nothing else ever would.
	-$(BIN)/python -m compileall -q -j 0 $(VENV)/lib
	@touch $@
