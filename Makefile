# make demo: a result on real data in a few minutes.   make test: the tests.   Both set up .venv themselves.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# Only what the registry's CPU build needs is pinned; see constraints.txt.
PIP := $(BIN)/python -m pip --disable-pip-version-check install --quiet -c constraints.txt

.PHONY: demo test check docs clean
.DEFAULT_GOAL := test

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "polydetr needs Python 3.11 or newer; set PYTHON=python3.11"; exit 1; }
	@echo "setting up $(VENV)"
	@$(PYTHON) -m venv $(VENV)

$(VENV)/.core: pyproject.toml constraints.txt | $(BIN)/python
	@echo "installing polydetr (once)"
	@$(PIP) torch
	@$(PIP) -e .
	@touch $@

$(VENV)/.dev: $(VENV)/.core
	@echo "installing what the tests need (once)"
	@$(PIP) -e '.[dev]'
	@touch $@

demo: $(VENV)/.core
	@$(BIN)/python -m polydetr.apps.demo

test: $(VENV)/.dev
	@$(BIN)/python -m pytest

check: $(VENV)/.dev
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/basedpyright --pythonpath $(BIN)/python
	@$(BIN)/lint-imports

docs: $(VENV)/.dev
	@$(PIP) -e '.[docs]'
	@$(BIN)/mkdocs build --strict

clean:
	rm -rf $(VENV) site demo-model .pytest_cache .ruff_cache .hypothesis
