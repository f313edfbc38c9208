# Environments of our own: the TPU compiler of the tests never meets a real run.
PYTHON ?= python3
RUN_ENV ?= .venv
TEST_ENV ?= .venv-test
OLDEST_ENV ?= .venv-oldest
# What `make run` runs, and where its results go.
CONFIG ?= configs/leco_arithmetic.py
WORKDIR ?= runs/$(basename $(notdir $(CONFIG)))
TEST_WORKERS ?= 2
# Tests and checks stay on the CPU; libtpu only compiles.
CPU = JAX_PLATFORMS=cpu

# The lower bound of jax in pyproject.toml.
OLDEST_JAX = $(shell sed -n 's/^dependencies = \["jax>=\([0-9.]*\)".*/\1/p' pyproject.toml)
BAZEL ?= bazel

.PHONY: help run test test-unit test-slow test-multihost test-parity test-oldest test-build lint format lock clean

help:
	@echo "make run          methods compared on the bundled model (writes $(WORKDIR)), or"
	@echo "  CONFIG=configs/leco_smollm2.py  on a pretrained one"
	@echo "make test-unit    the quick tests: no other process, no TPU compiler, no training runs"
	@echo "make test         lint, types and all tests but those that need long"
	@echo "make test-slow    the tests that need longer"
	@echo "make test-multihost  everything with several processes, kills included"
	@echo "make test-parity  live comparison with torch and transformers"
	@echo "make test-oldest  the scoring tests with jax $(OLDEST_JAX), the oldest that is supported"
	@echo "make test-build   every Bazel target, and two test suites under Bazel"
	@echo "make lock         write requirements_lock.txt, which MODULE.bazel reads"

run: $(RUN_ENV)/.installed
	$(RUN_ENV)/bin/python -m launchers.leco --config=$(CONFIG) --workdir=$(WORKDIR)

test: lint
	$(CPU) $(TEST_ENV)/bin/python -m pytest -n $(TEST_WORKERS) --dist loadfile -m "not slow and not parity"

test-unit: $(TEST_ENV)/.installed
	$(CPU) $(TEST_ENV)/bin/python -m pytest -n $(TEST_WORKERS) --dist loadfile -m unit

test-slow: $(TEST_ENV)/.installed
	$(CPU) $(TEST_ENV)/bin/python -m pytest -n $(TEST_WORKERS) --dist loadfile -m "slow and not parity"

# One worker: each test has processes of its own. `make test`, and so CI, runs the quick part, which
# is not marked slow: two processes with permuted devices train by SFT and DPO, and answer by LeCo, as
# one does; three compare what they read. Four processes killed at random: `make test-slow`.
test-multihost: $(TEST_ENV)/.installed
	$(CPU) $(TEST_ENV)/bin/python -m pytest tests/launchers/test_processes.py \
	  tests/launchers/test_shared_work.py tests/launchers/test_shared_runs.py \
	  tests/w2s_jax/training/test_processes.py tests/w2s_jax/training/data/test_process_rows.py \
	  tests/leco_jax/decoding/test_sharded_engine.py

test-parity: $(TEST_ENV)/.parity
	$(CPU) $(TEST_ENV)/bin/python -m pytest -m parity

test-oldest: $(OLDEST_ENV)/.installed
	$(CPU) $(OLDEST_ENV)/bin/python -m pytest -m "not slow and not tpu_compile" \
	  tests/leco_jax/scoring

# Bazel's tests use the Python that is first on PATH.
test-build: $(TEST_ENV)/.installed
	@command -v $(BAZEL) || { echo "no $(BAZEL): install Bazel, or name it: make BAZEL=..."; exit 1; }
	PATH="$(abspath $(TEST_ENV))/bin:$$PATH" $(BAZEL) build //...
	PATH="$(abspath $(TEST_ENV))/bin:$$PATH" $(BAZEL) test //:test_leco_jax_scoring \
	  //:test_leco_jax_text

lock: $(TEST_ENV)/.installed
	echo "# Tested as a set on Python 3.11; \`make lock\` writes it, MODULE.bazel reads it." > requirements_lock.txt
	$(TEST_ENV)/bin/python -m pip freeze --exclude-editable >> requirements_lock.txt

lint: $(TEST_ENV)/.installed
	$(TEST_ENV)/bin/ruff check .
	$(TEST_ENV)/bin/ruff format --check .
	$(TEST_ENV)/bin/mypy

format: $(TEST_ENV)/.installed
	$(TEST_ENV)/bin/ruff check --fix .
	$(TEST_ENV)/bin/ruff format .

$(RUN_ENV)/bin/python $(TEST_ENV)/bin/python $(OLDEST_ENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and \
	  "leco-jax needs Python 3.11 or newer; name one: make PYTHON=python3.12 ...")'
	$(PYTHON) -m venv $(@D)/..

$(RUN_ENV)/.installed: pyproject.toml | $(RUN_ENV)/bin/python
	$(RUN_ENV)/bin/python -m pip install --quiet --editable '.[experiments]'
	touch $@

$(TEST_ENV)/.installed: pyproject.toml | $(TEST_ENV)/bin/python
	$(TEST_ENV)/bin/python -m pip install --quiet --editable '.[experiments,gcs,dev,aot]'
	touch $@

$(OLDEST_ENV)/.installed: pyproject.toml | $(OLDEST_ENV)/bin/python
	$(OLDEST_ENV)/bin/python -m pip install --quiet --editable . "jax==$(OLDEST_JAX)" \
	  pytest hypothesis
	touch $@

# A CPU build of torch where one is offered by that version; any other works as well.
$(TEST_ENV)/.parity: $(TEST_ENV)/.installed
	$(TEST_ENV)/bin/python -m pip install --quiet torch==2.13.0
	$(TEST_ENV)/bin/python -m pip install --quiet --editable '.[experiments,gcs,dev,aot,parity]'
	touch $@

clean:
	rm -rf $(RUN_ENV) $(TEST_ENV) $(OLDEST_ENV) build *.egg-info
