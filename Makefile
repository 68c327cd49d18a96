export PYTHONPATH := $(CURDIR)
PYTHON ?= python3
VENV := .venv/bin
ARGS ?=

.DEFAULT_GOAL := help
.PHONY: help setup setup-run run test check bench soak lock

help:
	@echo "make run     set up what is needed and start the marketplace with life-like data (ARGS=... go to clearlot run)"
	@echo "make test    set up, check, and run every test (ARGS=... go to pytest)"
	@echo "make check   ruff, formatting, mypy strict, import direction"
	@echo "make setup   only set up .venv and the browser's files, for tests too"
	@echo "make bench   print the figures (ARGS=... go to clearlot bench; without it: every bench)"
	@echo "make lock    make the locks anew after a change of dependencies (ARGS=-U takes the newest versions)"
	@echo "make soak    run the long random tests until stopped or for ARGS=seconds"

setup-run:
	@$(PYTHON) tools/bootstrap.py run
	@$(VENV)/python tools/assets.py

setup:
	@$(PYTHON) tools/bootstrap.py dev
	@$(VENV)/python tools/assets.py tests

run: setup-run
	@$(VENV)/python -m web.cli run $(ARGS)

check: setup
	$(VENV)/ruff check .
	$(VENV)/ruff format --check .
	$(VENV)/mypy
	$(VENV)/python -m pytest -q -p no:xdist tests/test_architecture.py tests/test_hygiene.py

test: check
	$(VENV)/python -m pytest -n auto $(ARGS)

bench: setup
	@$(if $(ARGS),$(VENV)/python -m web.cli bench $(ARGS),for name in bids tape recover; do $(VENV)/python -m web.cli bench $$name || exit 1; done)

soak: setup
	$(VENV)/python tools/soak.py $(ARGS)

lock: setup
	$(VENV)/python tools/lock.py $(ARGS)
