# Every target does its own set-up: python3 (3.11 to 3.13), make and pip are enough.
#
#   PYTHON=python3.12        the interpreter that .venv is made with
#   ARGS="..."               arguments for `reverie demo` or pytest
#   WORKERS=2                test processes
#   TORCH_INDEX=URL          where else to look for PyTorch, e.g. https://download.pytorch.org/whl/cpu

PYTHON ?= python3
WORKERS ?= 2
ARGS ?=
TORCH_INDEX ?=

VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check -qq install --no-compile -c constraints.txt
STAMP := $(VENV)/.installed

# Compiled modules are kept, also where the environment says otherwise: tests start hundreds of processes.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.PHONY: help setup demo test lint format clean

help:  ## List the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-8s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: $(STAMP)  ## Create .venv and install everything from constraints.txt

# Modules are compiled when they are imported: compiling all of them takes as long as installing them.
# PyTorch first and by its exact version, so that nothing later can choose another build of it.
$(STAMP): pyproject.toml constraints.txt
	@command -v $(PYTHON) >/dev/null || { echo "reverie needs Python 3.11, 3.12 or 3.13, and '$(PYTHON)' was not found; install one, or name it: make PYTHON=python3.12 ..." >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' || { echo "reverie needs Python 3.11, 3.12 or 3.13, but '$(PYTHON)' is $$($(PYTHON) -V 2>&1); name another one: make PYTHON=python3.12 ..." >&2; exit 1; }
	@test -x $(BIN)/python || { echo "Creating $(VENV)"; $(PYTHON) -m venv $(VENV); }
	@echo "Installing PyTorch (1/2)"
	@$(PIP) $(if $(TORCH_INDEX),--extra-index-url $(TORCH_INDEX)) "$$(grep '^torch==' constraints.txt)" hatchling
	@echo "Installing reverie and the rest (2/2)"
	@$(PIP) --no-build-isolation -e ".[dev]"
	@touch $@

demo: $(STAMP)  ## Train on a real Atari game, evaluate, and draw the agent's dream (ARGS="...")
	@$(BIN)/reverie demo $(ARGS)

test: $(STAMP)  ## Run all tests, the learning ones too (ARGS="-k rssm", ARGS="-m 'not learning'")
	@OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(WORKERS) --maxschedchunk 1 $(ARGS)

lint: $(STAMP)  ## Check style, format, types and import directions
	@status=0; for check in "ruff check ." "ruff format --check ." mypy "lint-imports --no-logo"; do \
	  echo "$$check"; $(BIN)/$$check || status=1; \
	done; exit $$status

format: $(STAMP)  ## Rewrite the code in the project's format
	@$(BIN)/ruff check --fix-only --quiet .
	@$(BIN)/ruff format .

clean:  ## Remove .venv, caches and build files; runs are kept
	@rm -rf $(VENV) build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
	@find src tests benchmarks examples -type d -name __pycache__ -prune -exec rm -rf {} + 2>/dev/null || true
