# `make demo` and `make test` work on a fresh machine: each sets up .venv by itself.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# Made anew when pyproject.toml changes.
READY := $(VENV)/.ready

.PHONY: demo test test-all pytest lint format performance statistics scale smoke chaos fuzz counts gpu-check perf perf-compare setup picture notebooks docs clean

setup: $(READY)

$(READY): pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --editable '.[dev]'
	touch $(READY)

demo: $(READY)
	$(BIN)/python -m harness run suite=domain_generalization

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# Lint beside the tests: mypy, without its cache, takes a minute of one core.
test: $(READY)
	$(MAKE) --jobs=2 --no-print-directory lint pytest

# And what the others show for one class or a few draws, for all of them. Before a release; half an hour.
test-all: $(READY)
	$(MAKE) --jobs=2 --no-print-directory lint pytest MARKS="not performance and not simulation"

# Hundreds of processes import the same modules: each is compiled once, whatever the environment says.
pytest: export PYTHONDONTWRITEBYTECODE =
MARKS ?= not slow and not performance and not simulation

pytest: $(READY)
	$(BIN)/python -m pytest -m "$(MARKS)" --numprocesses auto --maxprocesses 4 --dist worksteal

# Asserts ratios of times, so it wants a machine that does nothing else.
performance: $(READY)
	$(BIN)/python -m pytest tests/performance -m performance -s

# Times the benchmarks, keeps them in .perf/history and draws all that were kept. Five minutes.
perf: $(READY)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest tests/performance/test_benchmarks.py -m performance --benchmark-storage=file://.perf/history --benchmark-autosave
	$(BIN)/python -m tests.performance.perf_history .perf/history

# Is the working tree slower than BASE? Fails and names what is. Ten minutes on a quiet machine.
BASE ?= HEAD
perf-compare: $(READY)
	$(BIN)/python -m tests.performance.perf_compare --base $(BASE)

# How often intervals hold the truth, and how often tests err, on simulated results. Minutes.
statistics: $(READY)
	$(BIN)/python -m pytest tests/simulation/test_statistics.py -m simulation -s

# 10,000 trials that train nothing through the real executor, store and status: memory and time. A quarter of an hour on a quiet machine.
scale: $(READY)
	$(BIN)/python -m pytest tests/simulation/test_scale.py -m simulation -s

# Every method that a suite names, trained and tested on six modalities in one run.
smoke: $(READY)
	$(BIN)/python -m harness run --config-dir tests/e2e/everything suite=everything store.root=runs/smoke

# 30 runs, in each the driver, a worker or the raylet is killed at a random moment. Half an hour on a quiet machine.
chaos: $(READY)
	$(BIN)/python -m tests.e2e.chaos 30

# 2,000 spoilt inputs through the commands: no traceback, no hang, no memory without end. Half an hour on two cores.
fuzz: $(READY)
	OMP_NUM_THREADS=1 $(BIN)/python -m tests.simulation.fuzz 2000

# Parameters and multiply-accumulates that `list` shows, after a change of a method.
counts: $(READY)
	$(BIN)/python docs/count_costs.py

# On a machine with a GPU: is it right, and how fast. At most 8 minutes; writes gpu-check.json. Without a GPU: the same, small.
gpu-check: $(READY)
	$(BIN)/python -m tests.performance.gpu_check

format: $(READY)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# The picture in the README, from the newest demo.
picture: $(READY)
	$(BIN)/python docs/take_picture.py

# Runs the documentation's notebooks and keeps what they print.
notebooks: $(READY)
	$(BIN)/python docs/run_notebooks.py

# The documentation as a site, in build/site. Fetches nothing; a warning is an error.
docs: $(READY)
	$(BIN)/python -m sphinx -W --keep-going -q -b html docs build/site

clean:
	rm -rf $(VENV) build *.egg-info .pytest_cache .mypy_cache .ruff_cache
