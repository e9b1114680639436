# One line per target is shown by `make help`: the text after the double hash.
#
# Everything runs from a virtual environment in .venv, made on demand and made again when pyproject.toml changes.
#   PYTHON=/usr/bin/python3.12   the interpreter to make it with (3.11 or newer)
#   SCENARIO=name                which story `make demo` plays
#   PYTEST='-k xid -x'           more arguments for pytest
#   SYSTEM=0                     never install system packages, even where it may
#   VENV=/dir RUN=/dir           other places for the environment and for the state of `make run`

SHELL := /bin/bash
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.NOTPARALLEL:

PYTHON ?= $(firstword $(foreach p,python3 python3.14 python3.13 python3.12 python3.11,\
	$(shell $(p) -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1 && echo $(p))) none)
VENV := .venv
RUN := .run
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --quiet --disable-pip-version-check --no-input
SCENARIO ?=
PYTEST ?=
SYSTEM ?= 1

.PHONY: help
help: ## list the targets
	@sed -n 's/^\([a-z][a-z-]*\):[^#]*## \(.*\)/\1\t\2/p' $(MAKEFILE_LIST) | awk -F'\t' '{ printf "  make %-8s %s\n", $$1, $$2 }'

# -- use --------------------------------------------------------------------------------------------------------------------

.PHONY: run
run: $(VENV)/.run ## watch this machine: the agent in the foreground, state under .run/; Ctrl-C ends it
	@mkdir -p $(RUN)/state $(RUN)/run
	@exec $(BIN)/hma agent --state-dir $(RUN)/state --run-dir $(RUN)/run

.PHONY: demo
demo: $(VENV)/.run ## play a fault on a simulated 8-GPU node (SCENARIO=name; without a name, lists them)
	@exec $(BIN)/hma demo $(SCENARIO)

# -- develop ----------------------------------------------------------------------------------------------------------------

.PHONY: test
test: $(VENV)/.dev ## run all tests; those that this machine cannot run say what is missing
	@SYSTEM=$(SYSTEM) bash tests/tools.sh
	@$(BIN)/python -m pytest $(PYTEST)

.PHONY: lint
lint: $(VENV)/.dev ## style, format and import contracts
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/lint-imports

.PHONY: types
types: $(VENV)/.dev ## mypy --strict on hma, checks and tests
	@$(BIN)/mypy

.PHONY: format
format: $(VENV)/.dev ## put every file into the house format
	@$(BIN)/ruff check --fix-only --quiet .
	@$(BIN)/ruff format .

.PHONY: bench
bench: $(VENV)/.dev ## measure latency, throughput and footprint beside the budget
	@$(BIN)/python -m tests.bench

.PHONY: docs
docs: $(VENV)/.run ## write the generated pages of docs/ again (catalogue, fault states)
	@$(BIN)/hma docs --into docs

.PHONY: clean
clean: ## remove the virtual environment, caches and the state of `make run`
	@rm -rf $(VENV) .run build dist .hypothesis .import_linter_cache .mypy_cache .pytest_cache .ruff_cache
	@find . -name __pycache__ -type d -not -path './.git/*' -prune -exec rm -rf {} +

# -- the environment --------------------------------------------------------------------------------------------------------

# .run has what a node carries; .dev adds the tools of tests and lint, so `make run` does not wait for them.
$(VENV)/.run: pyproject.toml | $(VENV)/.python
	@echo "make: installing hma into $(VENV)" >&2
	@$(PIP) install --editable .
	@touch $@

$(VENV)/.dev: pyproject.toml | $(VENV)/.python
	@echo "make: installing hma and its test and lint tools into $(VENV)" >&2
	@$(PIP) install --editable '.[test,lint]'
	@touch $@ $(VENV)/.run

$(VENV)/.python:
	@[ "$(PYTHON)" != none ] || { echo "make: no Python 3.11 or newer found (python3 is $$(python3 -V 2>/dev/null || echo absent));" \
	  "install one (apt-get install python3 python3-venv) or say make PYTHON=/path/to/python3" >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
	  echo "make: $(PYTHON) is $$($(PYTHON) -V 2>/dev/null || echo no Python that runs);" \
	  "Python 3.11 or newer is needed: make PYTHON=/path/to/python3" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { \
	  echo "make: $(PYTHON) cannot make virtual environments: apt-get install python3-venv (or this distribution's package of it)" >&2; exit 1; }
	@mkdir -p $(VENV) 2>/dev/null && [ -w $(VENV) ] || { echo "make: $(abspath $(VENV)) cannot be written by $$(id -un);" \
	  "copy this folder to a place of your own, or say make run VENV=/tmp/hma/venv RUN=/tmp/hma/run" >&2; exit 1; }
	@$(PYTHON) -m venv --clear $(VENV)
	@touch $@
