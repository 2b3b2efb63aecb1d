# Every target sets up what it needs: a machine with Python 3.11 or later and make is enough.
#   make generate PROMPT="a red heart, 3D style"
#   make generate PROMPT="a red heart, 3D style" OPTIONS="--seed 7 --keep 2"

VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check
PYTHON ?= $(shell for python in python3.11 python3 python; do \
	$$python -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$python && break; done)
# A process on each core, up to four; each trains the model that tests share. A file stays in one process.
PYTEST := $(BIN)/python -m pytest -n auto --maxprocesses 4 --dist loadfile
# axe-core of npm judges the web page's accessibility in the tests.
AXE := .cache/node_modules/axe-core/axe.min.js
PROMPT ?=
OPTIONS ?=
# The recipe reads it from the environment, so that quotes and dollars in a prompt stay what they are.
export PROMPT

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help install generate serve test test-slow check lint types docs site format clean

help: ## List these targets
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1\t\2/p' $(firstword $(MAKEFILE_LIST)) | expand -t 20

install: $(VENV)/.dev ## Set up everything in .venv

generate: $(VENV)/.runtime ## Draw PROMPT="…" with the model that ships in the package
	@test -n "$$PROMPT" || { echo 'make generate PROMPT="a red heart, 3D style"' >&2; exit 2; }
	$(BIN)/trencadis generate "$$PROMPT" $(OPTIONS)

serve: $(VENV)/.serve ## Serve the web page and the OpenAI Images API on http://127.0.0.1:8000, and open the page
	$(BIN)/trencadis serve --open $(OPTIONS)

test: $(VENV)/.dev $(AXE) ## Run the tests but the slow ones
	$(PYTEST)

test-slow: $(VENV)/.dev ## Run the slow tests: more cases of what a fast test shows
	$(PYTEST) -m "slow and not gpu"

check: lint types test test-slow site ## Run everything: style, types, tests, documentation

lint: $(VENV)/.dev
	$(BIN)/ruff check
	$(BIN)/ruff format --check

types: $(VENV)/.dev
	$(BIN)/python -m mypy

docs: $(VENV)/.dev ## Write docs/cli.md and build the documentation in site/
	$(BIN)/python docs/generate_cli.py
	$(MAKE) site

site: $(VENV)/.dev
	$(BIN)/zensical build --clean --strict

format: $(VENV)/.dev ## Put the code into its style
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

clean: ## Remove what was built, but .venv
	rm -rf build dist site .cache .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find src benchmarks tests examples docs -name __pycache__ -prune -exec rm -rf {} +

$(BIN)/python:
	@test -n "$(PYTHON)" || { echo 'Python 3.11 or later is needed: make PYTHON=/path/to/python' >&2; exit 2; }
	$(PYTHON) -m venv $(VENV)

# Dependency groups need pip 25.1, and a new environment may hold an older one.
$(VENV)/.runtime: pyproject.toml constraints.txt | $(BIN)/python
	$(PIP) install --quiet --upgrade -c constraints.txt pip
	$(PIP) install --quiet -c constraints.txt -e .
	@touch $@

$(VENV)/.serve: $(VENV)/.runtime
	$(PIP) install --quiet -c constraints.txt -e ".[serve]"
	@touch $@

$(AXE):
	@npm install --silent --no-save --no-audit --no-fund --prefix .cache axe-core@4.14.1 \
		|| echo 'no npm: the page is not checked with axe-core' >&2

$(VENV)/.dev: $(VENV)/.runtime
	$(PIP) install --quiet -c constraints.txt -e ".[all]" --group dev --group docs
	@touch $@
