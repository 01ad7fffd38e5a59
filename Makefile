# Every target makes what it needs. PYTHON chooses the interpreter, VENV where the environment goes:
#   make test PYTHON=python3.13 VENV=.venv-313
PYTHON ?= python3
VENV ?= .venv
PYTEST_ARGS ?=
BENCH_ARGS ?=

BIN := $(abspath $(VENV))/bin
DEV := $(VENV)/.installed-dev
EXAMPLE := $(VENV)/.installed-example
MANAGE := $(BIN)/python manage.py
POSTGRES := $(BIN)/python -m tests.servers.postgres
MARIADB := $(BIN)/python -m tests.servers.mariadb
MYSQL := $(VENV)/.installed-mysql
# What is told apart by database there: statements counted, and all but the model store's own tests.
MARIADB_TESTS := tests/contracts tests/database tests/engine tests/races tests/plans/test_mariadb.py \
	--ignore tests/database/test_statements.py --ignore tests/engine/test_statements.py
CHAOS_TESTS := $(BIN)/python -m pytest tests/chaos -o faulthandler_timeout=600 $(PYTEST_ARGS)
# One data file per process and environment, so that two environments can be tested side by side.
export COVERAGE_FILE := $(abspath $(VENV))/coverage/data

.DEFAULT_GOAL := help
.NOTPARALLEL:
.PHONY: help test test-sqlite test-postgres coverage coverage-erase lint format types \
	migrations-check chaos test-mariadb chaos-mariadb demo serve bench bench-charts clean

help: ## show this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 20

test: coverage-erase test-sqlite test-postgres coverage ## all tests, on SQLite and on a PostgreSQL of their own

test-sqlite: $(DEV) ## the tests on SQLite
	env -u DATABASE_URL $(BIN)/coverage run -m pytest $(PYTEST_ARGS)

test-postgres: $(DEV) ## the tests on PostgreSQL (PG_BINDIR chooses another version)
	$(POSTGRES) -- $(BIN)/coverage run -m pytest $(PYTEST_ARGS)

coverage: $(DEV) ## the branch coverage of all runs since coverage-erase
	$(BIN)/coverage combine --quiet
	$(BIN)/coverage report

coverage-erase:
	rm -rf $(dir $(COVERAGE_FILE)) && mkdir -p $(dir $(COVERAGE_FILE))

lint: $(DEV) ## ruff, rules and format
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

format: $(DEV) ## write what `make lint` asks for, where a tool can
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

types: $(DEV) ## mypy, strict
	$(BIN)/mypy
	$(BIN)/mypy --config-file example_project/mypy.ini

migrations-check: $(DEV) ## no model change without its migration
	DJANGO_SETTINGS_MODULE=tests.settings $(MANAGE) makemigrations --check --dry-run

test-mariadb: $(MYSQL) ## the tests of the store and the engine on a MariaDB of their own
	$(MARIADB) -- $(BIN)/python -m pytest $(MARIADB_TESTS) $(PYTEST_ARGS)

chaos-mariadb: $(MYSQL) ## what of the reliability suite runs on MariaDB, in full, under 3 minutes
	CHAOS=full $(MARIADB) -- $(BIN)/python -m pytest tests/chaos/test_kills.py \
		tests/chaos/test_mariadb.py $(PYTEST_ARGS)

# A run that fails does not keep the others, nor the table, from coming.
chaos: $(DEV) ## the reliability suite in full, on PostgreSQL and on SQLite, under 10 minutes
	rm -rf build/chaos
	ended=0; \
	CHAOS=full $(POSTGRES) -- $(CHAOS_TESTS) || ended=1; \
	CHAOS=full env -u DATABASE_URL $(CHAOS_TESTS) || ended=1; \
	$(BIN)/python -m tests.chaos.report || ended=1; \
	exit $$ended

demo: $(EXAMPLE) ## the example shop from an empty database to the last invoice
	$(MANAGE) demo

serve: $(EXAMPLE) ## the example shop and its admin in a browser
	$(MANAGE) serve

bench: $(DEV) ## the benchmark on a durable PostgreSQL of its own, under 20 minutes
	$(POSTGRES) --durable -- $(BIN)/python -m tests.benchmarks $(BENCH_ARGS)

bench-charts: $(DEV) ## the curves of the docs, drawn from the figures of the last `make bench`
	$(BIN)/python -m tests.benchmarks.charts build/bench/figures.json docs/images

clean: ## remove what runs left behind, environments excepted
	rm -rf build dist .mypy_cache .pytest_cache .ruff_cache .hypothesis tests/var example_project/var
	find . -name __pycache__ -not -path './.venv*' -prune -exec rm -rf {} +

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

$(DEV): pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[dev]'
	touch $@

# Without a compiler and headers the driver cannot be built: the server's module says what is missing.
$(MYSQL): $(DEV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[dev,mysql]' && touch $@ || true

$(EXAMPLE): pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[example]'
	touch $@
