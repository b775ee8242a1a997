# make demo: a result on real data in a few minutes.   make test: the tests.   Both set up .venv themselves.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# On Linux the index's own torch brings CUDA; PIP_OPTIONS="--index-url ..." with PyTorch's CPU index makes it small.
PIP_OPTIONS ?=
PIP := $(BIN)/python -m pip --disable-pip-version-check install --quiet $(PIP_OPTIONS) -c constraints.txt

.PHONY: demo test check docs clean
.DEFAULT_GOAL := test

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "polydetr needs Python 3.11 or newer; set PYTHON=python3.11"; exit 1; }
	@echo "setting up $(VENV)"
	@$(PYTHON) -m venv $(VENV)

$(VENV)/.core: pyproject.toml constraints.txt | $(BIN)/python
	@echo "installing polydetr (once)"
	@$(PIP) torch
	@$(BIN)/python -m pip uninstall --quiet --yes polydetr 2> /dev/null # of a checkout from before polydetr-core
	@$(PIP) -e '.[train]'
	@touch $@

$(VENV)/.dev: $(VENV)/.core
	@echo "installing what the tests need (once)"
	@# seqeval comes as source; pip before 23.1 builds that in the old way, which does not fetch what its build needs.
	@$(PIP) --use-pep517 -e '.[dev]'
	@touch $@

demo: $(VENV)/.core
	@$(BIN)/python -m polydetr.apps.demo

test: $(VENV)/.dev
	@OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile

check: $(VENV)/.dev
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/basedpyright --pythonpath $(BIN)/python
	@$(BIN)/lint-imports

docs: $(VENV)/.dev
	@$(PIP) --use-pep517 -e '.[docs]'
	@NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict
	@$(BIN)/python docs/check_site.py site

clean:
	rm -rf $(VENV) site demo-model demo-data .pytest_cache .ruff_cache .hypothesis
