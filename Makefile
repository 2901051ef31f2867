# make demo and make test are the two commands of a newcomer. Each sets .venv up when it is missing: the
# demo with what the jobs run, the tests with TensorFlow and the developer's tools as well.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.PHONY: help setup unit-models unit-others demo notebook unit test test-slow test-all lint docs docs-generate format lock clean

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
RUNTIME := $(VENV)/.installed-runtime
READY := $(VENV)/.installed
NOTEBOOK := $(VENV)/.installed-notebook
DEMO := build/demo

# Annoy is built from source. Its own flags are -march=native, which is an illegal instruction on an
# older machine, and -ffast-math; this names a baseline that every x86-64 server of ten years has.
ifeq ($(shell uname -m),x86_64)
  BASELINE := -march=x86-64-v3
else
  BASELINE := -mtune=generic
endif
ANNOY_FLAGS := -O3,$(BASELINE),-std=c++14,-DANNOYLIB_MULTITHREADED_BUILD

help: ## lists what there is to make
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 15

setup: $(READY) ## sets .venv up from the pinned lock files

$(RUNTIME): requirements-runtime.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' || \
	  { echo "make: needs Python 3.11, 3.12 or 3.13, found $$($(PYTHON) --version 2>&1 || echo none); install one, or name it: make PYTHON=python3.11" >&2; exit 2; }
	@$(PYTHON) -c 'import sysconfig, pathlib, sys; sys.exit(not pathlib.Path(sysconfig.get_path("include"), "Python.h").is_file())' || \
	  { echo "make: needs Python's headers to build Annoy; install python3-dev (Debian, Ubuntu) or python3-devel (Fedora)" >&2; exit 2; }
	@command -v g++ >/dev/null || \
	  { echo "make: needs a C++ compiler to build Annoy; install g++" >&2; exit 2; }
	@java=$$(java -version 2>&1 | sed -n 's/^[^"]*version "\([0-9]*\).*/\1/p' || true); [ "$${java:-0}" -ge 17 ] || \
	  { echo "make: needs Java 17 or newer for Spark, found $${java:-none}; install openjdk-17-jre-headless and put java on PATH" >&2; exit 2; }
	$(PYTHON) -m venv $(VENV)
	# Annoy first and uncached: a wheel that pip built earlier for this machine may have other flags.
	grep -A2 '^annoy==' requirements-runtime.lock > $(VENV)/annoy.lock
	ANNOY_COMPILER_ARGS=$(ANNOY_FLAGS) $(BIN)/python -m pip install --quiet --no-cache-dir --no-binary annoy --require-hashes -r $(VENV)/annoy.lock
	$(BIN)/python -m pip install --quiet --no-deps --require-hashes -r requirements-runtime.lock
	$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation --editable .
	touch $@

$(READY): requirements.lock $(RUNTIME)
	$(BIN)/python -m pip install --quiet --no-deps --require-hashes -r requirements.lock
	touch $@

$(NOTEBOOK): requirements-notebook.lock $(RUNTIME)
	$(BIN)/python -m pip install --quiet --no-deps --require-hashes -r requirements-notebook.lock
	touch $@

demo: $(RUNTIME) ## draws a gallery, runs both jobs on it, prints recall, writes a contact sheet
	@rm -rf $(DEMO)
	$(BIN)/python -m pool3.gallery draw --output $(DEMO)
	./submit.sh extract-features --input $(DEMO)/pictures --output $(DEMO)/features --model seeded
	./submit.sh build-index --features $(DEMO)/features --index $(DEMO)/index --n-shards 2
	$(BIN)/python -m pool3.gallery score --index $(DEMO)/index --truth $(DEMO)/truth.csv --sheet $(DEMO)/look-alikes.png

notebook: $(NOTEBOOK) ## opens notebooks/search.ipynb on the demo's index, with Jupyter in .venv
	@[ -d $(DEMO)/index ] || { echo "make: expected the demo's index in $(DEMO)/index, found none; run make demo first" >&2; exit 2; }
	$(BIN)/jupyter lab notebooks/search.ipynb

# More words for pytest, such as PYTEST_ARGS="-k where"; a path too, except for unit.
PYTEST_ARGS ?=

unit: setup ## runs the tests that start no JVM, in under 2 minutes on two cores
	@$(MAKE) --no-print-directory --jobs=2 --output-sync=target unit-models unit-others

# Two halves of about the same processor time, one a core; status 5 is a half without a chosen test.
UNIT := -m "not spark and not slow"
MODELS := tests/pool3/models tests/pool3/engines tests/pool3/images tests/hostile

unit-models:
	$(BIN)/python -m pytest $(UNIT) $(PYTEST_ARGS) $(MODELS) || [ $$? -eq 5 ]

unit-others:
	$(BIN)/python -m pytest $(UNIT) $(PYTEST_ARGS) $(MODELS:%=--ignore=%) || [ $$? -eq 5 ]

test: setup lint ## checks the code and runs the tests, in under 15 minutes on two cores
	$(BIN)/python -m pytest -m "not slow" $(PYTEST_ARGS)

test-slow: setup ## runs what test leaves out: faults, separate processes, a cluster
	$(BIN)/python -m pytest -m slow $(PYTEST_ARGS)

test-all: test test-slow ## both, in under 60 minutes on two cores

lint: setup ## ruff, mypy and import-linter
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

docs: setup ## builds the documentation into build/site, strictly
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

docs-generate: setup ## writes the pages of docs/ that are made from the code
	$(BIN)/python -m docs.generate

format: setup ## formats the code and sorts imports
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# One resolution for all: the smaller lock files take the versions of the largest. The runtime has what
# installs pool3 itself, too.
lock: ## resolves the versions anew, needs uv on PATH
	uv pip compile pyproject.toml --universal --python-version 3.11 --extra spark --extra tensorflow \
	  --extra openvino --extra heif --extra docs --extra dev --generate-hashes --no-emit-index-url --no-annotate --no-header -o requirements.lock
	for name in runtime notebook bench; do \
	  case $$name in runtime) extras="--extra spark --extra openvino" ;; *) extras="--extra $$name" ;; esac; \
	  build=$$(case $$name in runtime) echo "setuptools>=77" ;; esac); \
	  uv pip compile pyproject.toml - --universal --python-version 3.11 $$extras --constraint requirements.lock \
	    --generate-hashes --no-emit-index-url --no-annotate --no-header -o requirements-$$name.lock <<< "$$build"; \
	done

clean: ## removes what the other targets made, .venv aside
	rm -rf build dist .pytest_cache .mypy_cache .ruff_cache .import_linter_cache
