# Two commands: `make demo` shows the whole path on the sample data, `make test` runs everything that CI runs.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
WORKERS ?= 2

.PHONY: demo test lint faults install clean

install: $(VENV)/.installed

$(VENV)/.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[train,dev]'
	touch $@

demo: install
	rm -rf runs/demo
	$(BIN)/python tests/demo.py --out runs/demo --workers $(WORKERS)

test: install
	$(BIN)/python -m pytest -n $(WORKERS) --dist loadgroup

lint: install
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

faults: install
	$(BIN)/python tests/faults/apply.py

clean:
	rm -rf runs build *.egg-info
