# Everything that a developer types, and what CI types too. `make` alone lists it.

VENV := .venv
BIN := $(VENV)/bin
EXTRAS := cli,embedded,torch,jax,gym,web,observe,snapshots,rivals,dev
DISTRIBUTIONS := shared[$(EXTRAS)] shared/roomgrad_trebuchet[all] shared/roomgrad_melody[all] \
	shared/roomgrad_hello shared/roomgrad_rlgym shared/roomgrad_split shared/roomgrad_swergio
BENCHMARKS := $(sort $(patsubst tests/benchmarks/%.py,%,$(wildcard tests/benchmarks/[a-z]*.py)) \
	$(patsubst tests/benchmarks/%/__main__.py,%,$(wildcard tests/benchmarks/*/__main__.py)))

# The tests run in WORKERS processes, those that start browsers and whole systems in SYSTEM_WORKERS.
# A browser drops its requests when a network of Docker comes or goes, so tests with Docker follow
# those with a browser. Those that compare durations (marker `alone`) come last, one after another.
WORKERS ?= 3
SYSTEM_WORKERS ?= 2

export PIP_DISABLE_PIP_VERSION_CHECK := 1
# Each run of pytest adds here what it left out, so that the last one can show all of it.
export LEFT_OUT := $(abspath $(VENV))/left-out

.DEFAULT_GOAL := help
.NOTPARALLEL:
.PHONY: audit install demo melody test test-all coverage floors lint format bench bench-speed bench-melody chaos fuzz revert model schedules up down freeze clean help soak

install: $(VENV)/installed ## make .venv with everything; quick when nothing changed

# On Linux, torch from the usual index is the build for CUDA, 2 GB and more. Name an index with
# the build for CPUs in PIP_EXTRA_INDEX_URL to get the small one.
$(VENV)/installed: shared/pyproject.toml $(wildcard shared/*/pyproject.toml) constraints.txt
	@set -e; \
	if ! $(BIN)/python -c 'import pip' 2>/dev/null; then \
		found=; \
		for python in "$(PYTHON)" python3.11 python3.12 python3.13 python3 python; do \
			if "$$python" -c 'import ensurepip, sys; sys.exit(sys.version_info < (3, 11))' \
				2>/dev/null; then found=$$python; break; fi; \
		done; \
		if [ -n "$$found" ]; then "$$found" -m venv --clear $(VENV); \
		elif command -v uv >/dev/null; then uv venv --quiet --clear --seed --python 3.11 $(VENV); \
		else echo "make: no Python 3.11 or newer with the module venv (Debian and Ubuntu:" \
			"apt install python3-venv); name another one by: make PYTHON=/path/to/python" >&2; \
			exit 1; \
		fi; \
	fi
	@echo "installing into $(VENV), a minute or two the first time ..."
	@$(BIN)/python -m pip install --quiet --constraint constraints.txt \
		$(patsubst %,--editable '%',$(DISTRIBUTIONS))
	@$(BIN)/python -m roomgrad.runtime simulator --help >/dev/null # compiles the physics, once
	@touch $@

demo: install ## train the trebuchet, watch it learn, draw trebuchet.png
	@$(BIN)/roomgrad run trebuchet --fresh --picture trebuchet.png --force

melody: install ## breed melodies, and open the page on which you rate them; Ctrl+C ends it
	@$(BIN)/roomgrad run melody

test: install lint ## format, lint, types, and all tests but the slow ones
	@rm -rf $(LEFT_OUT) build/coverage && mkdir -p build/coverage
	$(BIN)/python -m pytest -m 'not slow and not alone' -n $(WORKERS) $(COUNTED) tests/unit tests/integration
	$(BIN)/python -m pytest -m 'not slow and not alone and not docker' -n $(SYSTEM_WORKERS) --dist loadfile \
		tests/docs tests/pages tests/systems
	$(BIN)/python -m pytest -m 'not slow and not alone and docker' -n $(WORKERS) --dist loadfile \
		tests/systems
	$(BIN)/python -m pytest -m 'not slow and alone' tests/pages tests/systems

test-all: install ## and the slow ones, coverage, each guard, the protocol, and schedules
	@$(BIN)/python -m tests.everything

revert: install ## take each guard away in a copy, and see its test fail; some minutes
	@$(BIN)/python -m tests.revert

coverage: install ## check the branch coverage of each layer by the quick tests without containers
	@rm -rf build/coverage && mkdir -p build/coverage
	$(BIN)/python -m pytest -q -m 'not slow and not docker' -n $(WORKERS) --cov --cov-report= \
		tests/unit tests/integration
	@$(MAKE) --no-print-directory floors

floors:
	@$(BIN)/python -m coverage json -q -o build/coverage/report.json
	@$(BIN)/python -m tests.layer_coverage build/coverage/report.json

lint: install ## check format, lint and types, and change nothing
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

format: install ## lay out the code, and repair what can be repaired without thought
	$(BIN)/ruff check --fix-only .
	$(BIN)/ruff format .

bench: install ## measure transport and trebuchet, beside what people use today
	@for name in $(filter-out melody_%,$(BENCHMARKS)); do \
		$(BIN)/python -m tests.benchmarks.$$name || exit 1; done

# Each table says how busy the machine was.
SPEED := "transport --seconds=1 --picture=docs/benchmarks.png" "hops --window-s=0.7" flood \
	hop_profile step window dashboard
bench-speed: install ## measure how fast messages and steps are beside others; fifteen minutes
	@for words in $(SPEED); do $(BIN)/python -m tests.benchmarks.$$words || exit 1; done

bench-melody: install ## measure how the melody maker learns from a person, asks, breeds, and how fast
	@for name in melody_learning melody_pairs melody_breeding melody_latency; do \
		$(BIN)/python -m tests.benchmarks.$$name || exit 1; done

# SEEDS=20 plays twenty of them; FLAGS=--short has short leases and outages, as in the tests, and
# FLAGS=--parameters=1000000 a network of so many parameters in place of the smallest model.
SEEDS ?= 1
chaos: install ## break everything on purpose, and count what is lost and doubled; some minutes
	@$(BIN)/python -m tests.chaos --seeds $(SEEDS) $(FLAGS)

# SECONDS=60 tries each kind of input for so long, guided by coverage; that needs the package atheris.
INPUTS ?= 1000000
fuzz: install ## a million bad inputs for everything that reads bytes of others; some minutes
	@$(BIN)/python -m tests.fuzz --inputs $(INPUTS) $(if $(SECONDS),--atheris $(SECONDS))
# FLAGS=--hours=72 takes three days.
soak: install ## both systems at full load for half an hour: does anything grow?
	@$(BIN)/python -m tests.soak $(FLAGS)

# WORD=joins checks the variants of that name. Needs Debian's spin and gcc.
model: install ## explore the commit protocol whole, with all its faults; some minutes
	@$(BIN)/python -m tests.model $(WORD)

SCHEDULES ?= 100000
schedules: install ## interleave replicas, and kill them and cut them off at any command
	@$(BIN)/python -m tests.schedules --schedules $(SCHEDULES) --processes 2

# pip-audit is no part of roomgrad, and has an environment of its own.
audit: install ## check the licenses of what roomgrad needs, and ask PyPI for known vulnerabilities
	@$(BIN)/python -m venv build/audit
	@build/audit/bin/python -m pip install --quiet 'pip-audit>=2.9' || true # then it is said below
	@$(BIN)/python -m tests.audit build/audit/bin/pip-audit

up: ## both systems in containers
	docker compose up --build --detach

down: ## stop the containers; their data stays
	docker compose down

# torch names its build in its version; 2.13.0+cpu is the same torch as 2.13.0.
freeze: install ## take the newest versions of everything into constraints.txt
	$(BIN)/python -m venv --upgrade-deps --clear build/freeze
	build/freeze/bin/python -m pip install --quiet $(patsubst %,'./%',$(DISTRIBUTIONS))
	grep '^#' constraints.txt >build/constraints.txt
	build/freeze/bin/python -m pip freeze --all --exclude pip \
		| grep -v '^roomgrad' | sed 's/+[a-z0-9.]*$$//' >>build/constraints.txt
	mv build/constraints.txt constraints.txt && rm -rf build

clean: ## remove .venv and caches; runs in .roomgrad stay
	rm -rf $(VENV) build .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find shared services tests -name __pycache__ -prune -exec rm -rf {} +

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{ printf "  make %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)
