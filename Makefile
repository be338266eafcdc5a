# make help: what there is. Needs Python 3.11 or later, make and gcc; each target makes what it needs the first time.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.stamp-setup
SOURCES := src tests benchmarks examples docs
BENCH_STAMP := $(VENV)/.stamp-bench

.DEFAULT_GOAL := help
.PHONY: help setup demo check test slow bench docs clean

help: ## this list
	@grep -E '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):.*## /\1\t/' | expand -t 10

setup: $(STAMP) ## .venv with everything a developer needs, at the versions of constraints.txt

$(STAMP): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet -c constraints.txt -e ".[dev]"
	touch $@

# Small problems on few cores: threads that spin for each other cost more than they bring.
check test slow: export OMP_NUM_THREADS = 1

demo: $(STAMP) ## simulate, check, train, sweep, pick, A/B test; ends with the report's path
	$(BIN)/paretune demo

check: $(STAMP) ## format, lint, types and the fast tests; under a minute
	$(BIN)/ruff format --check $(SOURCES)
	$(BIN)/ruff check $(SOURCES)
	$(BIN)/mypy
	$(BIN)/pytest -m "not slow and not e2e" -n 2

test: $(STAMP) ## all tests but the slow ones
	$(BIN)/pytest -m "not slow" -n 2 --dist loadfile

slow: $(STAMP) ## the tests that take minutes: interval coverage, long simulations
	$(BIN)/pytest -m slow

$(BENCH_STAMP): $(STAMP)
	$(BIN)/python -m pip install --quiet -c constraints.txt -e ".[dev,bench]"
	touch $@

bench: $(BENCH_STAMP) ## every benchmark, at its quick size; rewrites benchmarks/README.md. KUAIRAND=DIR adds that world, ONLY="peers drift" runs some
	$(BIN)/python benchmarks/every.py $(if $(KUAIRAND),--data $(KUAIRAND)) $(ONLY)

docs: $(STAMP) ## the references docs/cli.md and docs/api.md, a check of every internal link, and the site in site/
	$(BIN)/python docs/build.py
	$(BIN)/python docs/site.py

clean: ## remove what make made; the environment too
	rm -rf build dist site .mypy_cache .ruff_cache .pytest_cache .hypothesis $(VENV)
