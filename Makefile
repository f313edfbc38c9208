# Two environments of our own, so that the TPU compiler of the tests never meets a real run.
PYTHON ?= python3
RUN_ENV ?= .venv
TEST_ENV ?= .venv-test
# What `make run` runs, and where its results go.
CONFIG ?= configs/leco_arithmetic.py
WORKDIR ?= runs/$(basename $(notdir $(CONFIG)))
TEST_WORKERS ?= 2
# Tests and checks stay on the CPU; libtpu only compiles.
CPU = JAX_PLATFORMS=cpu

.PHONY: help run test test-slow test-parity lint format build-file clean

help:
	@echo "make run          methods compared on the bundled model (writes $(WORKDIR)), or"
	@echo "  CONFIG=configs/leco_smollm2.py  on a pretrained one"
	@echo "make test         lint, types and all tests that need minutes"
	@echo "make test-slow    the tests that need longer"
	@echo "make build-file   write BUILD from the imports"
	@echo "make test-parity  live comparison with torch and transformers"

run: $(RUN_ENV)/.installed
	$(RUN_ENV)/bin/python -m launchers.leco --config=$(CONFIG) --workdir=$(WORKDIR)

test: lint
	$(CPU) $(TEST_ENV)/bin/python -m pytest -n $(TEST_WORKERS) -m "not slow and not parity"

test-slow: $(TEST_ENV)/.installed
	$(CPU) $(TEST_ENV)/bin/python -m pytest -n $(TEST_WORKERS) -m "slow and not parity"

test-parity: $(TEST_ENV)/.parity
	$(CPU) $(TEST_ENV)/bin/python -m pytest -m parity

lint: $(TEST_ENV)/.installed
	$(TEST_ENV)/bin/ruff check .
	$(TEST_ENV)/bin/ruff format --check .
	$(TEST_ENV)/bin/mypy

format: $(TEST_ENV)/.installed
	$(TEST_ENV)/bin/ruff check --fix .
	$(TEST_ENV)/bin/ruff format .

build-file: $(TEST_ENV)/.installed
	$(TEST_ENV)/bin/python -m tests.build_file

$(RUN_ENV)/bin/python $(TEST_ENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and \
	  "leco-jax needs Python 3.11 or newer; name one: make PYTHON=python3.12 ...")'
	$(PYTHON) -m venv $(@D)/..

$(RUN_ENV)/.installed: pyproject.toml | $(RUN_ENV)/bin/python
	$(RUN_ENV)/bin/python -m pip install --quiet --editable .
	touch $@

$(TEST_ENV)/.installed: pyproject.toml | $(TEST_ENV)/bin/python
	$(TEST_ENV)/bin/python -m pip install --quiet --editable '.[dev,aot]'
	touch $@

# A CPU build of torch where one is offered by that version; any other works as well.
$(TEST_ENV)/.parity: $(TEST_ENV)/.installed
	$(TEST_ENV)/bin/python -m pip install --quiet torch==2.13.0
	$(TEST_ENV)/bin/python -m pip install --quiet --editable '.[dev,aot,parity]'
	touch $@

clean:
	rm -rf $(RUN_ENV) $(TEST_ENV) build *.egg-info
