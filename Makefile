# make run: the site and its worker, on this machine, with nothing but Python.
# make test: all checks. What a test needs and does not find, it skips, saying so; with CI=true it fails instead.

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

test: .venv/test
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/mypy
	.venv/bin/python manage.py makemigrations --check --dry-run
	.venv/bin/pytest --numprocesses=auto --maxprocesses=8 --dist=loadfile

.venv/run: requirements.txt
	@$(PYTHON) -c 'import sys; sys.version_info >= (3, 11) or sys.exit("Python 3.11 or newer is needed: make PYTHON=...")'
	$(PYTHON) -m venv .venv
	.venv/bin/pip install --quiet --disable-pip-version-check -r requirements.txt
	@touch $@

.venv/test: .venv/run requirements-dev.txt
	.venv/bin/pip install --quiet --disable-pip-version-check -r requirements-dev.txt
	@touch $@

# Needs RabbitMQ, Redis and PostgreSQL; see benchmarks/README.md. `make bench ONLY="1 4"` runs some of the measures.
bench: .venv/bench
	.venv/bin/python -m benchmarks.run $(ONLY)

.venv/bench: .venv/test benchmarks/requirements.txt benchmarks/peers/requirements.txt
	.venv/bin/pip install --quiet --disable-pip-version-check -r benchmarks/requirements.txt
	@touch $@

# Needs RabbitMQ, Redis and PostgreSQL; see CONTRIBUTING.md. `make faults SEED=1 RUNS=200` is the long one.
SEED ?= 1
RUNS ?= 25
faults: .venv/test
	@.venv/bin/python -m HomeApp.tests.faults --seed $(SEED) --runs $(RUNS)

.PHONY: run test bench faults
