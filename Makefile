# make run: the site and its worker, on this machine, with nothing but Python.
# make check: lint, types, templates, pending migrations and the quick tests, in about a minute.
# make test: the same and the slow tests. What a test needs and does not find, it skips, saying so; with CI=true it
# fails instead.

ADDRESS ?= 127.0.0.1:8000
PYTHON ?= python3
export ADDRESS

# Ctrl-C puts a running job back into the queue instead of waiting for its end; the next run takes it up again.
# Source: Celery, "Workers Guide", "Cold shutdown" and REMAP_SIGTERM.
run: export REMAP_SIGTERM = SIGQUIT
run: .venv/run
	@.venv/bin/python manage.py migrate -v 0
	@echo "Open http://$(ADDRESS)/ and press START. Ctrl-C stops everything."
	@PATH="$(CURDIR)/.venv/bin:$$PATH" honcho start

# Two processes more than there are cores, as the slow tests mostly wait. The order in which the tests are collected is
# kept: the slow files come first (conftest.py).
PROCESSES = $(shell $(PYTHON) -c 'import os; print(min(8, os.cpu_count() + 2))')
PYTEST = .venv/bin/pytest --numprocesses=$(PROCESSES) --dist=loadfile --no-loadscope-reorder

check: lint
	$(PYTEST) -m "not slow"

# `make test TESTS=redis` runs the tests that have this in their names.
test: lint
	$(PYTEST) $(if $(TESTS),-k "$(TESTS)")

# Biome checks JavaScript and CSS; as it needs npm, .pre-commit-config.yaml calls it.
lint: .venv/test
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/mypy
	.venv/bin/djade --target-version 5.2 --check $$(find HomeApp livejobs -path "*/templates/*.html")
	.venv/bin/python manage.py makemigrations --check --dry-run

# Lock files name each package's hashes, and pip takes no file that has another one.
INSTALL = .venv/bin/pip install --quiet --disable-pip-version-check --require-hashes

.venv/run: requirements.txt
	@$(PYTHON) -c 'import sys; sys.version_info >= (3, 11) or sys.exit("Python 3.11 or newer is needed: make PYTHON=...")'
	$(PYTHON) -m venv .venv
	$(INSTALL) -r requirements.txt
	@touch $@

# `make check DJANGO=6.1` on a machine without .venv installs this Django in place of the locked one.
.venv/test: .venv/run requirements-dev.txt
	$(INSTALL) -r requirements-dev.txt
	$(if $(DJANGO),.venv/bin/pip install --quiet --disable-pip-version-check "Django==$(DJANGO).*")
	@touch $@

# Writes each lock file from the .in file of the same name, for Python 3.11 and newer on any system. A version changes
# only if its .in file asks for it; `make lock UPGRADE=1` takes the newest of all.
LOCKS = requirements-production requirements-openai requirements requirements-dev benchmarks/requirements
lock: .venv/test
	$(foreach lock,$(LOCKS),$(call compile,$(lock)))

define compile
	.venv/bin/uv pip compile --quiet --no-config --universal --python-version 3.11 --generate-hashes --no-annotate \
		$(if $(UPGRADE),--upgrade) $(1).in -o $(1).txt

endef

# Needs RabbitMQ, Redis and PostgreSQL; see benchmarks/README.md. `make bench ONLY="1 4"` runs some of the measures.
bench: .venv/bench
	.venv/bin/python -m benchmarks.run $(ONLY)

.venv/bench: .venv/test benchmarks/requirements.txt
	$(INSTALL) -r benchmarks/requirements.txt
	@touch $@

# Needs RabbitMQ, Redis and PostgreSQL; see CONTRIBUTING.md. `make faults SEED=1 RUNS=200` is the long one.
SEED ?= 1
RUNS ?= 25
faults: .venv/test
	@.venv/bin/python -m testkit.faults --seed $(SEED) --runs $(RUNS)

.PHONY: run check test lint lock bench faults
