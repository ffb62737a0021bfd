# Two commands on a fresh machine: `make run` and `make test`. The rest is for people who work on the workbench.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
ROWS   ?= 100000

.PHONY: run test check serve lab bench clean

$(VENV)/.installed: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "needs Python 3.11 or newer; give it as: make PYTHON=python3.12 run"; exit 2; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e .
	@touch $@

$(VENV)/.installed-dev: $(VENV)/.installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@touch $@

data/demo/truth.yml: | $(VENV)/.installed
	$(BIN)/aftersales demo --rows $(ROWS)

run: $(VENV)/.installed data/demo/truth.yml        ## the demo world: ingest, five reports, what to open
	$(BIN)/aftersales ingest
	$(BIN)/aftersales action import data/demo/actions.csv
	$(BIN)/aftersales report run --if-changed
	@echo
	@echo "Open the reports above in a browser; root_cause names what to fix."
	@echo "Pages with filters:  make serve   (then http://127.0.0.1:8866/)"
	@echo "Explore:             make lab"

test: $(VENV)/.installed-dev                       ## everything: unit, notebook, browser
	$(BIN)/python -m pytest -n 2 --dist loadfile

check: $(VENV)/.installed-dev                      ## before a change is offered
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python -m pytest -n 2 --dist loadfile -q -m "not browser and not slow"

serve: $(VENV)/.installed                          ## the pages at http://127.0.0.1:8866/
	$(BIN)/aftersales serve

lab: $(VENV)/.installed                            ## JupyterLab on this workspace
	$(BIN)/aftersales lab

bench: $(VENV)/.installed-dev                      ## speed and memory as ratios against peers of the same run
	for file in tests/benchmarks/bench_*.py; do $(BIN)/python $$file || exit 1; done

clean:                                             ## what can be rebuilt: lake, reports, caches (not the register)
	rm -rf data/lake data/demo reports/runs .cache
