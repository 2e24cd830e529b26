# `make demo` and `make test` are all that a fresh machine needs: each creates the environment if there is none.
# PYTHON is the interpreter to build it from (3.11 or newer), VENV where it goes.

PYTHON ?= $(shell for p in python3.11 python3.12 python3.13 python3 python; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && { echo $$p; break; }; done)
VENV ?= .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
OUT ?= demo_output

# Two threads, here and wherever the figures of the documentation were measured.
export OMP_NUM_THREADS ?= 2
export MKL_NUM_THREADS ?= 2
export TOKENIZERS_PARALLELISM ?= false
export PIP_DISABLE_PIP_VERSION_CHECK = 1

.PHONY: help install demo test test-slow coverage lint format typecheck embedded bench wheel clean

help:  ## Show the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  %-10s %s\n", $$1, $$2}'

$(READY): pyproject.toml constraints.txt
	@test -n "$(PYTHON)" || { echo "Python 3.11 or newer is needed: make PYTHON=/path/to/python3.11"; exit 1; }
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet -c constraints.txt -e ".[dev]"
	@touch $@

install: $(READY)  ## Create the environment

demo: $(READY)  ## Run the agent on a shipped scene: picture, JSON and table in demo_output/
	$(BIN)/visionllm demo --save $(OUT)

# Two processes of one thread each: most tests are too short to fill two cores with one process.
WORKERS ?= 2
IN_PARALLEL := --numprocesses $(WORKERS) --dist worksteal
test test-slow coverage: export OMP_NUM_THREADS = 1
test test-slow coverage: export MKL_NUM_THREADS = 1

test: $(READY)  ## Run the tests (in WORKERS=2 processes)
	$(BIN)/python -m pytest $(IN_PARALLEL)

test-slow: $(READY)  ## Run the long tests, too
	$(BIN)/python -m pytest $(IN_PARALLEL) -m "slow or not slow"

coverage: $(READY)  ## Run the tests with line coverage of the three packages
	$(BIN)/python -m pytest $(IN_PARALLEL) --cov --cov-report=term --cov-fail-under=90

lint: $(READY)  ## Check style and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(READY)  ## Format the code
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

typecheck: $(READY)  ## Check types only
	$(BIN)/mypy

embedded: $(READY)  ## Train the embedded model again (hours; resumes where it stopped)
	$(BIN)/python -m visionllm_adapters.recipe

bench: $(READY)  ## Measure speed and memory
	$(BIN)/python benchmarks/run.py

wheel: $(READY)  ## Build the wheel into dist/
	$(BIN)/python -m build --wheel --no-isolation

clean:  ## Remove the environment and what the commands wrote
	rm -rf $(VENV) dist build $(OUT) .pytest_cache .mypy_cache .ruff_cache .hypothesis .coverage
