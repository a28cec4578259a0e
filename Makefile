# Two commands: `make demo` shows the whole path on the sample data, `make test` runs everything that CI runs.
PYTHON ?= python3
WORKERS ?= 2
BIN := .venv/bin
DEMO := runs/demo

.PHONY: install demo test lint faults clean

install: .venv/installed

.venv/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[train,dev]'
	touch $@

demo: install
	rm -rf $(DEMO)
	$(BIN)/curate run configs/curate/demo.yaml --out $(DEMO)/curated --engine ray --workers $(WORKERS)
	$(BIN)/curate run configs/curate/demo.yaml --out $(DEMO)/curated-inline --engine inline
	$(BIN)/curate compare $(DEMO)/curated $(DEMO)/curated-inline
	$(BIN)/mixtures plan configs/mixtures/demo.yaml --out $(DEMO)/mixture --engine ray --workers $(WORKERS)
	$(BIN)/mixtures build configs/mixtures/demo.yaml --out $(DEMO)/mixture --engine ray --workers $(WORKERS)
	$(BIN)/mixtures build configs/mixtures/demo.yaml --out $(DEMO)/mixture-inline --engine inline
	$(BIN)/curate compare $(DEMO)/mixture $(DEMO)/mixture-inline
	$(BIN)/mixtures study configs/studies/demo.yaml --out $(DEMO)/study
	@echo "curation report: $(DEMO)/curated/report.html"
	@echo "study report:    $(DEMO)/study/report.html"

test: install
	$(BIN)/python -m pytest -n $(WORKERS) --dist loadgroup

lint: install
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

faults: install
	$(BIN)/python tests/faults/apply.py

clean:
	rm -rf runs build *.egg-info .venv/installed
