# Every target does its own set-up: a private virtual environment in .venv, made
# with the first Python >= 3.11 found (or: make PYTHON=/path/to/python ...).

VENV := .venv
BIN := $(VENV)/bin
LAB := $(VENV)/.ready-lab
DEV := $(VENV)/.ready-dev
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet

.DEFAULT_GOAL := help
.PHONY: help demo test minimal lab bench scoreboard lint format check clean

help: ## List the targets
	@echo "usage: make <target>"
	@sed -n 's/^\([a-z][a-z]*\):.*## \(.*\)/  \1\t\2/p' $(firstword $(MAKEFILE_LIST)) | expand -t 12

demo: $(LAB) ## Run the main job on the sample store; results in build/demo/
	$(BIN)/meshlab demo

test: $(DEV) ## Run all tests, doctests and notebooks
	@command -v chromium >/dev/null || command -v chromium-browser >/dev/null || \
	  echo "no Chromium here: the test in a real browser is left out (Debian, Ubuntu: apt-get install chromium)"
	$(BIN)/python -m pytest -n 2 --dist loadscope

minimal: | $(BIN)/python ## Install the core alone in build/minimal and see that it needs no extra
	@rm -rf build/minimal
	@$(BIN)/python -m venv build/minimal
	@build/minimal/bin/python -m pip --disable-pip-version-check --quiet install .
	build/minimal/bin/python tests/minimal.py

lab: $(LAB) ## Open JupyterLab on the notebooks (this machine only)
	$(BIN)/meshlab lab meshlab-lab -- $(OPTIONS)

bench: $(DEV) ## Measure against what one would do instead; takes minutes
	$(BIN)/python -m benchmarks --readme README.md

scoreboard: $(DEV) ## Try every promise with faults; docs/scoreboard.md; under an hour
	$(BIN)/python -m scoreboard

lint: $(DEV) ## Check style and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(DEV) ## Rewrite the sources in the house format
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

check: lint test ## Run lint, then test

clean: ## Remove what these targets made, the environment too
	rm -rf $(VENV) build .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(LAB): pyproject.toml | $(BIN)/python
	@echo "installing meshlab and JupyterLab into $(VENV) (once; a minute or two)"
	@$(PIP) install --editable '.[lab]'
	@touch $@

$(DEV): pyproject.toml | $(BIN)/python
	@echo "installing meshlab and its tools into $(VENV) (once; a minute or two)"
	@$(PIP) install --editable '.[dev]'
	@touch $@ $(LAB)

$(BIN)/python:
	@for python in $(PYTHON) python3.13 python3.12 python3.11 python3.14 python3 python; do \
	  "$$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || continue; \
	  if ! "$$python" -c 'import ensurepip, venv' 2>/dev/null; then \
	    echo "make: $$python has no venv module; install it (Debian, Ubuntu: apt install python3-venv)" >&2; exit 1; \
	  fi; \
	  echo "making $(VENV) with $$("$$python" --version)"; \
	  rm -rf $(VENV); "$$python" -m venv $(VENV); exit; \
	done; \
	echo "make: no Python 3.11 or newer found; install one, or name it: make PYTHON=/path/to/python" >&2; exit 1
